//! Fields on the wire that this release has never heard of.
//!
//! The generated code skips them, so they are looked for in the bytes: only when a message is
//! shorter when it is encoded again, which an unknown field makes it. (So do a few encoders that
//! write default values; then nothing is found.) What is known is read once out of the
//! descriptors, into a table of numbers and names.

use std::collections::HashMap;
use std::sync::OnceLock;

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::fields::At;
use crate::proto::{DESCRIPTORS, Packed};

/// Nesting that is followed; that of the decoder itself.
const MAX_DEPTH: usize = 100;

/// Warns about, or refuses, unknown fields of `message`, whose encoding was `bytes`.
pub fn report<T: Packed>(message: &T, bytes: &[u8], at: &At<'_>) {
    if message.encoded_len() >= bytes.len() {
        return;
    }
    let name = T::TYPE_URL.rsplit('/').next().unwrap_or_default();
    if let Some(known) = table().get(name) {
        scan(bytes, known, at, MAX_DEPTH);
    }
}

/// The fields of a message, by number.
type Known = HashMap<u32, Field>;

struct Field {
    name: Box<str>,
    /// The message it holds, if its fields are known.
    message: Option<Box<str>>,
    repeated: bool,
}

fn table() -> &'static HashMap<Box<str>, Known> {
    static TABLE: OnceLock<HashMap<Box<str>, Known>> = OnceLock::new();
    TABLE.get_or_init(|| {
        // Compiled in and read by a test; were it broken, nothing would be unknown.
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
        let mut table = HashMap::new();
        for file in &files.file {
            for message in &file.message_type {
                add(&mut table, file.package(), message);
            }
        }
        table
    })
}

fn add(table: &mut HashMap<Box<str>, Known>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        add(table, &name, nested);
    }
    let fields = message.field.iter().filter_map(|field| {
        let holds = (field.r#type() == Type::Message).then(|| field.type_name()[1..].into());
        let repeated = field.label() == prost_types::field_descriptor_proto::Label::Repeated;
        let known = Field { name: field.name().into(), message: holds, repeated };
        Some((u32::try_from(field.number()).ok()?, known))
    });
    // What is not read has no known fields, and none that are unknown.
    if name != "tulle.trimmed.Unsupported" {
        table.insert(name.as_str().into(), fields.collect());
    }
}

/// Reads the fields of one message; `None` where the bytes are malformed.
fn scan(bytes: &[u8], known: &Known, at: &At<'_>, depth: usize) -> Option<()> {
    let mut rest = bytes;
    let mut counts: HashMap<u32, usize> = HashMap::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let number = u32::try_from(key >> 3).ok()?;
        let content = match key & 7 {
            0 => {
                varint(&mut rest)?;
                &[]
            }
            1 => take(&mut rest, 8)?,
            2 => {
                let length = varint(&mut rest)?;
                take(&mut rest, usize::try_from(length).ok()?)?
            }
            5 => take(&mut rest, 4)?,
            _ => return None,
        };
        let Some(field) = known.get(&number) else {
            at.unknown(number);
            continue;
        };
        let nested = field.message.as_deref().and_then(|name| table().get(name));
        let Some(nested) = nested.filter(|_| depth > 0) else { continue };
        let index = counts.entry(number).or_default();
        let at = if field.repeated { at.item(&field.name, *index) } else { at.field(&field.name) };
        *index += 1;
        scan(content, nested, &at, depth - 1)?;
    }
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, more) = rest.split_first()?;
        *rest = more;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, more) = rest.split_at_checked(length)?;
    *rest = more;
    Some(taken)
}
