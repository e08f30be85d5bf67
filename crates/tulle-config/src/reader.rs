//! The reader: typed access to a tree that reports what is wrong at the place where it is wrong.
//!
//! Sits between [`crate::tree`] and the dialects. A [`Field`] is a value with its path; reading it
//! as something it is not becomes a finding and yields `None`, so a dialect reads straight down and
//! learns everything wrong with an object at once. [`Fields::finish`] refuses what nobody read:
//! a field is used, declared as not enforced, or unknown; there is no fourth way.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::diagnostic::{Code, Diagnostic};
use crate::object::ObjectId;
use crate::path;
use crate::tree::{Entry, Fault, Node, Position, Scalar, Style, Value};

mod scalar;

pub use scalar::{duration_text, parse_duration};

/// Most findings kept per object: after that the file is wrong as a whole.
const MAX_FINDINGS: usize = 100;

/// Collects the findings of one object.
#[derive(Debug)]
pub struct Report<'a> {
    file: &'a str,
    object: Option<ObjectId>,
    found: RefCell<Vec<Diagnostic>>,
    schema: RefCell<Schema>,
}

/// Which fields each message has and whether they are enforced, as seen while reading.
pub type Schema = BTreeMap<&'static str, BTreeMap<&'static str, bool>>;

impl<'a> Report<'a> {
    /// An empty report about something in `file`.
    pub fn new(file: &'a str) -> Self {
        Report { file, object: None, found: RefCell::default(), schema: RefCell::default() }
    }

    /// Names the object all further findings are about.
    pub fn set_object(&mut self, object: ObjectId) {
        self.object = Some(object);
    }

    /// The object, once known.
    pub fn object(&self) -> Option<&ObjectId> {
        self.object.as_ref()
    }

    /// Adds a finding.
    pub fn add(&self, fault: Fault) {
        let Fault { code, at, path, message, help } = fault;
        let mut found = self.found.borrow_mut();
        // A value read twice has one finding; one that lacks its variable has no other.
        let unresolved = [Code::VariableForbidden, Code::VariableUnset];
        let known = found.iter().any(|one| {
            one.path == path && (one.message == message || unresolved.contains(&one.code))
        });
        if known || found.len() >= MAX_FINDINGS {
            return;
        }
        found.push(Diagnostic {
            code,
            severity: code.severity(),
            file: self.file.to_owned(),
            at,
            object: self.object.clone(),
            path,
            message,
            help,
        });
    }

    /// Whether anything so far refuses the object.
    pub fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(Diagnostic::is_error)
    }

    /// The findings, and the fields seen.
    pub fn into_parts(self) -> (Vec<Diagnostic>, Schema) {
        (self.found.into_inner(), self.schema.into_inner())
    }
}

/// A value of an object, with its path.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    report: &'a Report<'a>,
    node: &'a Node,
    at: Position,
    path: String,
}

impl<'a> Field<'a> {
    /// The root of a document.
    pub fn root(report: &'a Report<'a>, node: &'a Node) -> Self {
        Field { report, node, at: node.at, path: String::new() }
    }

    /// Path from the object's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value itself.
    pub fn value(&self) -> &'a Value {
        &self.node.value
    }

    /// Adds a finding about this field, at its key.
    pub fn problem(&self, code: Code, message: impl Into<String>, help: impl Into<String>) {
        self.report_at(self.at, code, message.into(), help.into());
    }

    fn report_at(&self, at: Position, code: Code, message: String, help: String) {
        self.report.add(Fault { code, at, path: self.path.clone(), message, help });
    }

    fn value_problem(&self, code: Code, message: impl Into<String>, help: impl Into<String>) {
        self.report_at(self.node.at, code, message.into(), help.into());
    }

    fn wrong_type(&self, expected: &str) {
        let found = match &self.node.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(Scalar { text, style: Style::Plain }) => format!("`{text}`"),
            Value::Scalar(Scalar { text, .. }) => format!("the text {text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        };
        let message = format!("{found} where {expected} belongs");
        self.value_problem(Code::WrongType, message, format!("write {expected}"));
    }

    /// The value as a message whose fields are read by name; `message` is its name in the API.
    pub fn fields(&self, message: &'static str) -> Option<Fields<'a>> {
        match &self.node.value {
            Value::Map(entries) => {
                Some(Fields { field: self.clone(), message, entries, read: RefCell::default() })
            }
            Value::Null | Value::Scalar(_) | Value::List(_) => {
                self.wrong_type("a map");
                None
            }
        }
    }

    /// The fields of a map, without a finding if it is none: for checks across fields whose
    /// types were read before.
    pub fn quiet_fields(&self) -> Option<Fields<'a>> {
        matches!(self.node.value, Value::Map(_)).then(|| self.fields("")).flatten()
    }

    /// Whether the value is a list without items.
    pub fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::List(items) if items.is_empty())
    }

    /// How many items a list has; none if it is no list.
    pub fn length(&self) -> usize {
        match &self.node.value {
            Value::List(items) => items.len(),
            Value::Null | Value::Scalar(_) | Value::Map(_) => 0,
        }
    }

    /// The text of a scalar, without a finding if it is none.
    pub fn quiet_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The values of a list.
    pub fn items(&self) -> Vec<Field<'a>> {
        let Value::List(nodes) = &self.node.value else {
            self.wrong_type("a list");
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Node)| Field {
            report: self.report,
            node,
            at: node.at,
            path: format!("{}[{index}]", self.path),
        };
        nodes.iter().enumerate().map(item).collect()
    }

    /// The entries of a map whose keys are free.
    pub fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong_type("a map");
            return Vec::new();
        };
        entries.iter().map(|entry| (entry.key.as_str(), self.child(entry))).collect()
    }

    fn child(&self, entry: &'a Entry) -> Field<'a> {
        Field {
            report: self.report,
            node: &entry.value,
            at: entry.key_at,
            path: path::join(&self.path, &entry.key),
        }
    }

    /// Every text of a list of texts.
    pub fn texts(&self) -> Vec<(Field<'a>, String)> {
        let text = |item: Field<'a>| item.text().map(|text| (item, text));
        self.items().into_iter().filter_map(text).collect()
    }

    /// A map of texts.
    pub fn text_map(&self) -> BTreeMap<String, String> {
        let entries = self.entries().into_iter();
        entries.filter_map(|(key, value)| Some((key.to_owned(), value.text()?))).collect()
    }

    /// Reads the text with `parse`; its error is a finding under `code`.
    pub fn parsed<T>(&self, code: Code, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.text()?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.value_problem(code, wrong.message, wrong.help);
                None
            }
        }
    }

    /// One of the given names; those paired with `None` exist but are not enforced.
    pub fn choice<T: Copy>(&self, choices: &[(&str, Option<T>)]) -> Option<T> {
        let text = self.text()?;
        let enforced = || {
            let names: Vec<&str> =
                choices.iter().filter(|(_, v)| v.is_some()).map(|(name, _)| *name).collect();
            names.join(", ")
        };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, Some(value))) => Some(*value),
            Some((_, None)) => {
                let message = format!("{text} is not enforced by this release");
                self.value_problem(Code::NotEnforcedValue, message, format!("use {}", enforced()));
                None
            }
            None => {
                let message = format!("{text:?} is not a value of this field");
                self.value_problem(Code::UnknownValue, message, format!("use {}", enforced()));
                None
            }
        }
    }
}

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub help: String,
}

impl Wrong {
    /// Names what is wrong and what to write.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Wrong { message: message.into(), help: help.into() }
    }
}

/// The fields of one message while they are read.
#[derive(Debug)]
pub struct Fields<'a> {
    field: Field<'a>,
    message: &'static str,
    entries: &'a [Entry],
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The message as a field, for findings about the whole.
    pub fn whole(&self) -> &Field<'a> {
        &self.field
    }

    /// A field, if it is set (a `null` is not).
    pub fn get(&self, name: &'static str) -> Option<Field<'a>> {
        self.read.borrow_mut().insert(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (entry.value.value != Value::Null).then(|| self.field.child(entry))
    }

    /// A field that is not enforced, looked at so that it gets one finding and not two.
    pub fn quiet(&self, name: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (entry.value.value != Value::Null).then(|| self.field.child(entry))
    }

    /// A field that must be set.
    pub fn required(&self, name: &'static str) -> Option<Field<'a>> {
        let field = self.get(name);
        if field.is_none() {
            self.missing(name);
        }
        field
    }

    /// Reports a field as missing.
    pub fn missing(&self, name: &str) {
        let path = path::join(&self.field.path, name);
        let message = "the field is required".to_owned();
        let help = format!("add {name}");
        let code = Code::MissingField;
        self.field.report.add(Fault { code, at: self.field.at, path, message, help });
    }

    /// A text, if set.
    pub fn text(&self, name: &'static str) -> Option<String> {
        self.get(name)?.text()
    }

    /// A boolean; `false` when not set.
    pub fn flag(&self, name: &'static str) -> bool {
        self.get(name).and_then(|field| field.boolean()).unwrap_or(false)
    }

    /// A list of texts; empty when not set.
    pub fn texts(&self, name: &'static str) -> Vec<(Field<'a>, String)> {
        self.get(name).map(|field| field.texts()).unwrap_or_default()
    }

    /// The items of a list; empty when not set.
    pub fn items(&self, name: &'static str) -> Vec<Field<'a>> {
        self.get(name).map(|field| field.items()).unwrap_or_default()
    }

    /// A map of texts; empty when not set.
    pub fn text_map(&self, name: &'static str) -> BTreeMap<String, String> {
        self.get(name).map(|field| field.text_map()).unwrap_or_default()
    }

    /// A duration of at least a millisecond.
    pub fn duration(&self, name: &'static str) -> Option<Duration> {
        self.get(name)?.duration(Duration::from_millis(1))
    }

    /// Ends the message: every field nobody read is refused. `unenforced` are those of the API
    /// that this release does not enforce.
    pub fn finish(self, unenforced: &[&'static str]) {
        let read = self.read.borrow();
        for entry in self.entries {
            let key = entry.key.as_str();
            if read.contains(key) || entry.value.value == Value::Null {
                continue;
            }
            let field = self.field.child(entry);
            if unenforced.contains(&key) {
                let message = format!("{key} is not enforced by this release");
                field.problem(Code::NotEnforcedField, message, "remove it");
            } else {
                let known = read.iter().chain(unenforced).copied();
                let help = match nearest(key, known.clone()) {
                    Some(name) => format!("did you mean {name}?"),
                    None => format!("fields here: {}", known.collect::<Vec<_>>().join(", ")),
                };
                let message = format!("{} has no field {key}", self.message);
                field.problem(Code::UnknownField, message, help);
            }
        }
        let mut schema = self.field.report.schema.borrow_mut();
        let message = schema.entry(self.message).or_default();
        message.extend(read.iter().map(|name| (*name, true)));
        message.extend(unenforced.iter().map(|name| (*name, false)));
    }
}

/// The candidate that was most probably meant: same letters, or few edits away.
pub fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let fold = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let folded = fold(word);
    let scored = candidates.map(|name| (distance(&folded, &fold(name)), name));
    let (edits, name) = scored.min_by_key(|(edits, _)| *edits)?;
    (edits <= folded.len().max(3) / 3).then_some(name)
}

/// Levenshtein distance, for words of at most 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
