//! The field table of a head: spans over one growable buffer.

use std::fmt;
use std::iter::FlatMap;

use thiserror::Error;

use super::grammar;
use super::known::{KnownId, KnownSet};
use super::list::{Tokens, tokens_of};
use super::name::Name;
use super::span::{FieldSpans, MAX_BUFFER_BYTES, Span};

/// Why an edit was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    #[error("not a valid header name")]
    Name,
    /// Among others CR, LF and NUL, with which a value could forge further fields.
    #[error("the value holds a byte that no header value may hold")]
    Value,
    #[error("the head would hold more than {MAX_BUFFER_BYTES} bytes")]
    TooLarge,
}

/// One field as an iterator yields it.
#[derive(Clone, Copy, Debug)]
pub struct FieldRef<'a> {
    /// Set for a known name, whatever its case.
    pub id: Option<KnownId>,
    /// The name in the case it was received or set.
    pub name: &'a [u8],
    /// The value without white space around it.
    pub value: &'a [u8],
}

/// The values of one name; see [`Headers::all`].
#[derive(Clone, Debug)]
pub struct All<'h, 'n> {
    headers: &'h Headers,
    fields: std::slice::Iter<'h, FieldSpans>,
    name: Name<'n>,
}

impl<'h> Iterator for All<'h, '_> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let field = self.fields.find(|field| self.headers.is_named(field, self.name))?;
        Some(self.headers.bytes(field.value))
    }
}

/// The list elements of one name; see [`Headers::tokens`].
pub type AllTokens<'h, 'n> = FlatMap<All<'h, 'n>, Tokens<'h>, fn(&'h [u8]) -> Tokens<'h>>;

/// Ordered header (or trailer) fields with their bytes.
#[derive(Debug, Default)]
pub struct Headers {
    buffer: Vec<u8>,
    fields: Vec<FieldSpans>,
    /// One bit per [`KnownId`] in the table, so that looking up an absent one is a bit test.
    known: u128,
}

impl Headers {
    /// An empty table without capacity.
    pub const fn new() -> Self {
        Headers { buffer: Vec::new(), fields: Vec::new(), known: 0 }
    }

    /// Forgets everything, keeps the capacity. Within a head, clear the head instead: its spans
    /// point into this buffer.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.fields.clear();
        self.known = 0;
    }

    /// Heap bytes held by buffer and table: what a free list looks at before it keeps a head.
    pub fn capacity_bytes(&self) -> usize {
        self.buffer.capacity() + self.fields.capacity() * size_of::<FieldSpans>()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of the fields as HTTP/1 writes them: `name: value CRLF` each.
    pub fn wire_len(&self) -> usize {
        self.fields.iter().map(|field| field.name.len() + field.value.len() + 4).sum()
    }

    // --- Lookups ------------------------------------------------------------------------------

    /// The value of the first field with this name.
    #[inline]
    pub fn first<'n>(&self, name: impl Into<Name<'n>>) -> Option<&[u8]> {
        self.find(name.into()).map(|index| self.bytes(self.fields[index].value))
    }

    /// The values of all fields with this name, in order.
    pub fn all<'h, 'n>(&'h self, name: impl Into<Name<'n>>) -> All<'h, 'n> {
        let name = name.into();
        let fields = if self.may_hold(name) { self.fields.as_slice() } else { &[] };
        All { headers: self, fields: fields.iter(), name }
    }

    /// The only value of this name; `Err` if there are several.
    pub fn single<'n>(&self, name: impl Into<Name<'n>>) -> Result<Option<&[u8]>, usize> {
        let name = name.into();
        if !self.may_hold(name) {
            return Ok(None);
        }
        let mut values = self.all(name);
        let first = values.next();
        match values.count() {
            0 => Ok(first),
            more => Err(more + 1),
        }
    }

    #[inline]
    pub fn contains<'n>(&self, name: impl Into<Name<'n>>) -> bool {
        self.find(name.into()).is_some()
    }

    /// The elements of all list-valued fields with this name.
    pub fn tokens<'h, 'n>(&'h self, name: impl Into<Name<'n>>) -> AllTokens<'h, 'n> {
        self.all(name).flat_map(tokens_of)
    }

    /// Whether a list-valued field names `token`, ignoring case.
    pub fn contains_token<'n>(&self, name: impl Into<Name<'n>>, token: &[u8]) -> bool {
        let name = name.into();
        self.may_hold(name) && self.tokens(name).any(|found| found.eq_ignore_ascii_case(token))
    }

    /// All fields in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FieldRef<'_>> + Clone {
        self.fields.iter().map(|field| FieldRef {
            id: field.id,
            name: self.bytes(field.name),
            value: self.bytes(field.value),
        })
    }

    // --- Edits --------------------------------------------------------------------------------

    /// Adds a field at the end, whatever is there already.
    ///
    /// # Errors
    /// As [`FieldError`]; nothing has changed then. So for all edits.
    pub fn append<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        value: &[u8],
    ) -> Result<(), FieldError> {
        self.append_with(name, |out| out.push(value))
    }

    /// Adds a field whose value is written in place, without a buffer of its own.
    pub fn append_with<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        write: impl FnOnce(&mut ValueWriter<'_>),
    ) -> Result<(), FieldError> {
        let field = self.write_field(name.into(), write)?;
        self.push(field);
        Ok(())
    }

    /// Adds a field in front of all others.
    pub fn prepend<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        value: &[u8],
    ) -> Result<(), FieldError> {
        let field = self.write_field(name.into(), |out| out.push(value))?;
        self.note(field.id);
        self.fields.insert(0, field);
        Ok(())
    }

    /// Adds a field unless there is one with this name. Returns whether it was added.
    pub fn append_if_absent<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        value: &[u8],
    ) -> Result<bool, FieldError> {
        let name = name.into();
        if self.contains(name) {
            return Ok(false);
        }
        self.append(name, value).map(|()| true)
    }

    /// Replaces the value of the first field with this name where it stands and removes the
    /// others; adds the field at the end if there is none.
    pub fn set<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) -> Result<(), FieldError> {
        self.set_with(name, |out| out.push(value))
    }

    /// [`Headers::set`] with a value that is written in place.
    pub fn set_with<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        write: impl FnOnce(&mut ValueWriter<'_>),
    ) -> Result<(), FieldError> {
        let name = name.into();
        let Some(first) = self.find(name) else {
            return self.append_with(name, write);
        };
        let value = self.write_value(write)?;
        self.give(first, value);
        self.retain_from(first + 1, |table, field| !table.is_named(field, name));
        Ok(())
    }

    /// Adds `value` to the end of the last field with this name, after `separator`; adds a field if
    /// there is none (`x-forwarded-for`, `via`).
    pub fn join<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        separator: &[u8],
        value: &[u8],
    ) -> Result<(), FieldError> {
        let name = name.into();
        let last = match self.may_hold(name) {
            true => self.fields.iter().rposition(|field| self.is_named(field, name)),
            false => None,
        };
        let Some(last) = last else {
            return self.append(name, value);
        };
        let old = self.fields[last].value;
        let joined = self.write_value(|out| {
            out.push_span(old);
            out.push(separator);
            out.push(value);
        })?;
        self.give(last, joined);
        Ok(())
    }

    /// Removes every field with this name; returns how many there were.
    pub fn remove<'n>(&mut self, name: impl Into<Name<'n>>) -> usize {
        let name = name.into();
        if !self.may_hold(name) {
            return 0;
        }
        let before = self.fields.len();
        self.retain_from(0, |table, field| !table.is_named(field, name));
        if let Name::Known(id) = name {
            self.known &= !id.bit();
        }
        before - self.fields.len()
    }

    /// Removes every field with one of these names; returns how many there were. One test where
    /// there is none of them.
    #[inline]
    pub fn remove_all(&mut self, names: KnownSet) -> usize {
        if self.known & names.bits() == 0 {
            return 0;
        }
        let before = self.fields.len();
        self.retain_from(0, |_, field| !field.id.is_some_and(|id| names.has(id)));
        self.known &= !names.bits();
        before - self.fields.len()
    }

    /// Keeps only the fields for which `keep` answers true; returns how many were removed.
    pub fn retain(&mut self, mut keep: impl FnMut(FieldRef<'_>) -> bool) -> usize {
        let before = self.fields.len();
        self.retain_from(0, |table, field| {
            keep(FieldRef {
                id: field.id,
                name: table.bytes(field.name),
                value: table.bytes(field.value),
            })
        });
        self.known = self.fields.iter().filter_map(|field| field.id).fold(0, |m, id| m | id.bit());
        before - self.fields.len()
    }

    /// Removes every field that an element of the list field `list` names (RFC 9110 §7.6.1:
    /// `Connection`); returns how many there were. Costs elements × fields: bound the elements.
    pub fn remove_listed(&mut self, list: KnownId) -> usize {
        let mut removed = 0;
        for index in 0..self.fields.len() {
            let FieldSpans { id, name, .. } = self.fields[index];
            if id != Some(list) && self.contains_token(list, self.bytes(name)) {
                // No field has an empty name, so it marks what goes.
                self.fields[index].name = Span::EMPTY;
                removed += 1;
            }
        }
        if removed > 0 {
            self.retain(|field| !field.name.is_empty());
        }
        removed
    }

    // --- For codecs ---------------------------------------------------------------------------

    /// Starts over with a copy of a received head, whose fields follow by
    /// [`Headers::push_received`].
    ///
    /// # Errors
    /// [`FieldError::TooLarge`].
    pub fn load(&mut self, head: &[u8]) -> Result<(), FieldError> {
        self.clear();
        self.store(head).map(drop)
    }

    /// Adds a field of the loaded bytes, checked by the codec.
    #[inline]
    pub fn push_received(&mut self, field: FieldSpans) {
        debug_assert!(self.holds(field.name) && self.holds(field.value));
        debug_assert_eq!(field.id, KnownId::of(self.bytes(field.name)));
        debug_assert!(!field.is_line || self.is_line(&field));
        self.push(field);
    }

    /// Where the value of the first field with this name lies.
    pub fn span_of(&self, id: KnownId) -> Option<Span> {
        self.find(Name::Known(id)).map(|index| self.fields[index].value)
    }

    /// Points the first field with this name at other bytes of the buffer, or adds one in front.
    pub fn point_at(&mut self, id: KnownId, value: Span) -> Result<(), FieldError> {
        debug_assert!(self.holds(value));
        if let Some(index) = self.find(Name::Known(id)) {
            self.give(index, value);
            return Ok(());
        }
        let name = self.store(id.as_str().as_bytes())?;
        self.note(Some(id));
        self.fields.insert(0, FieldSpans { id: Some(id), name, value, is_line: false });
        Ok(())
    }

    /// The whole buffer, for codecs that write runs of untouched fields at once.
    #[inline]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// All fields in order, for codecs.
    #[inline]
    pub fn spans(&self) -> &[FieldSpans] {
        &self.fields
    }

    fn is_line(&self, field: &FieldSpans) -> bool {
        self.buffer.get(field.name.end()..field.value.start()) == Some(b": ")
            && self.buffer.get(field.value.end()..field.value.end() + 2) == Some(b"\r\n")
    }

    /// Bytes of a span of this head; none for a span of another one.
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.buffer.get(span.start()..span.end()).unwrap_or(b"")
    }

    /// Appends bytes to the buffer without making them a field.
    ///
    /// # Errors
    /// [`FieldError::TooLarge`].
    pub fn store(&mut self, bytes: &[u8]) -> Result<Span, FieldError> {
        let start = self.buffer.len();
        if start + bytes.len() > MAX_BUFFER_BYTES {
            return Err(FieldError::TooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(Span::new(start, self.buffer.len()))
    }

    /// Appends a copy of bytes that are already in the buffer.
    ///
    /// # Errors
    /// [`FieldError::TooLarge`].
    pub fn store_span(&mut self, span: Span) -> Result<Span, FieldError> {
        let start = self.buffer.len();
        if start + span.len() > MAX_BUFFER_BYTES || !self.holds(span) {
            return Err(FieldError::TooLarge);
        }
        self.buffer.extend_from_within(span.start()..span.end());
        Ok(Span::new(start, self.buffer.len()))
    }

    /// Whether `span` lies within the buffer.
    pub fn holds(&self, span: Span) -> bool {
        span.end() <= self.buffer.len()
    }

    // --- Inner --------------------------------------------------------------------------------

    #[inline]
    fn may_hold(&self, name: Name<'_>) -> bool {
        match name {
            Name::Known(id) => self.known & id.bit() != 0,
            Name::Other(_) => true,
        }
    }

    #[inline]
    fn is_named(&self, field: &FieldSpans, name: Name<'_>) -> bool {
        match name {
            Name::Known(id) => field.id == Some(id),
            Name::Other(bytes) => {
                field.name.len() == bytes.len()
                    && self.bytes(field.name).eq_ignore_ascii_case(bytes)
            }
        }
    }

    #[inline(always)]
    fn find(&self, name: Name<'_>) -> Option<usize> {
        // The test alone is what most lookups come to, and stands where they are made.
        if self.may_hold(name) { self.position(name) } else { None }
    }

    #[inline(never)]
    fn position(&self, name: Name<'_>) -> Option<usize> {
        self.fields.iter().position(|field| self.is_named(field, name))
    }

    fn note(&mut self, id: Option<KnownId>) {
        if let Some(id) = id {
            self.known |= id.bit();
        }
    }

    /// Points a field at another value.
    fn give(&mut self, index: usize, value: Span) {
        self.fields[index].value = value;
        self.fields[index].is_line = false;
    }

    #[inline]
    fn push(&mut self, field: FieldSpans) {
        self.note(field.id);
        self.fields.push(field);
    }

    /// Keeps the fields before `from` and those after it that `keep` wants. Does not touch `known`.
    fn retain_from(&mut self, from: usize, mut keep: impl FnMut(&Headers, &FieldSpans) -> bool) {
        let mut write = from;
        for read in from..self.fields.len() {
            let field = self.fields[read];
            if keep(self, &field) {
                self.fields[write] = field;
                write += 1;
            }
        }
        self.fields.truncate(write);
    }

    fn write_field(
        &mut self,
        name: Name<'_>,
        write: impl FnOnce(&mut ValueWriter<'_>),
    ) -> Result<FieldSpans, FieldError> {
        let id = match name {
            Name::Known(id) => Some(id),
            Name::Other(bytes) if grammar::is_token(bytes) => None,
            Name::Other(_) => return Err(FieldError::Name),
        };
        let start = self.buffer.len();
        let name = self.store(name.as_bytes())?;
        // As the wire has it, so that codecs copy it with its neighbours.
        self.buffer.extend_from_slice(b": ");
        match self.write_value(write) {
            Ok(value) => {
                self.buffer.extend_from_slice(b"\r\n");
                Ok(FieldSpans { id, name, value, is_line: true })
            }
            Err(error) => {
                self.buffer.truncate(start);
                Err(error)
            }
        }
    }

    fn write_value(
        &mut self,
        write: impl FnOnce(&mut ValueWriter<'_>),
    ) -> Result<Span, FieldError> {
        let start = self.buffer.len();
        write(&mut ValueWriter { buffer: &mut self.buffer });
        let end = self.buffer.len();
        let refused = if end > MAX_BUFFER_BYTES {
            Some(FieldError::TooLarge)
        } else if !grammar::is_field_value(&self.buffer[start..end]) {
            Some(FieldError::Value)
        } else {
            None
        };
        match refused {
            Some(error) => {
                self.buffer.truncate(start);
                Err(error)
            }
            None => Ok(Span::new(start, end)),
        }
    }
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        let mut copy = Headers::new();
        copy.clone_from(self);
        copy
    }

    /// Reuses the buffers of `self`.
    fn clone_from(&mut self, source: &Self) {
        self.buffer.clone_from(&source.buffer);
        self.fields.clone_from(&source.fields);
        self.known = source.known;
    }
}

/// Writes one value at the end of a head's buffer. The value is checked when it is complete.
pub struct ValueWriter<'a> {
    buffer: &'a mut Vec<u8>,
}

impl ValueWriter<'_> {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a number in decimal, without the formatting machinery.
    pub fn push_u64(&mut self, number: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }

    fn push_span(&mut self, span: Span) {
        self.buffer.extend_from_within(span.start()..span.end());
    }
}

impl fmt::Write for ValueWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
