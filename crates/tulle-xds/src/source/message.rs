//! A tree becomes a message: the protobuf JSON mapping, strict, with a finding for each mistake.
//!
//! Field names are accepted as in the .proto file and in lowerCamelCase. Two things are taken on
//! trust because only the decoders know what they mean where they stand: the content of a message
//! that this release does not read, of which only the presence is kept, and an `@type` that is not
//! known, whose content is dropped. Each decoder refuses or warns about both.

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};

use super::scalar::{self, Plain};
use super::tree::{Entry, Mark, Node, Tree};
use crate::fields::MAX_FINDINGS;

/// Prefix of the type URLs that are written.
const URL_PREFIX: &str = "type.googleapis.com/";
const UNSUPPORTED: &str = "tulle.trimmed.Unsupported";
const DURATION: &str = "google.protobuf.Duration";
const TIMESTAMP: &str = "google.protobuf.Timestamp";
const VALUE: &str = "google.protobuf.Value";
const ANY: &str = "google.protobuf.Any";

/// A mistake in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Path of the field, names as in the .proto files.
    pub path: String,
    /// Where it stands.
    pub mark: Mark,
    /// What is wrong.
    pub text: String,
}

/// Turns `node` into a message of type `name`.
///
/// # Errors
/// Every mistake, up to a limit; at least one.
pub fn read(
    pool: &DescriptorPool,
    name: &str,
    node: &Node,
) -> Result<DynamicMessage, Vec<Mistake>> {
    let mut reader = Reader { pool, path: Vec::new(), mistakes: Vec::new() };
    let Some(descriptor) = pool.get_message_by_name(name) else {
        reader.mistake(node.mark, format!("no message is called {name}"));
        return Err(reader.mistakes);
    };
    match reader.message(node, &descriptor) {
        Some(message) if reader.mistakes.is_empty() => Ok(message),
        _ => Err(reader.mistakes),
    }
}

/// Whether two spellings name the same field: `filter_chains` and `filterChains`.
#[must_use]
pub fn same_name(one: &str, other: &str) -> bool {
    camel(one).eq(camel(other))
}

fn camel(name: &str) -> impl Iterator<Item = char> + '_ {
    let mut upper = false;
    name.chars().filter_map(move |letter| {
        if letter == '_' {
            upper = true;
            return None;
        }
        let letter = if upper { letter.to_ascii_uppercase() } else { letter };
        upper = false;
        Some(letter)
    })
}

struct Reader<'a> {
    pool: &'a DescriptorPool,
    path: Vec<String>,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn mistake(&mut self, mark: Mark, text: impl Into<String>) {
        if self.mistakes.len() < MAX_FINDINGS {
            self.mistakes.push(Mistake { path: self.path.join(""), mark, text: text.into() });
        }
    }

    fn fail<T>(&mut self, mark: Mark, text: impl Into<String>) -> Option<T> {
        self.mistake(mark, text);
        None
    }

    /// Does `work` one step further down.
    fn below<T>(&mut self, step: String, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let result = work(self);
        self.path.pop();
        result
    }

    fn field_step(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!(".{name}") }
    }

    fn message(&mut self, node: &Node, descriptor: &MessageDescriptor) -> Option<DynamicMessage> {
        match descriptor.full_name() {
            UNSUPPORTED => return Some(DynamicMessage::new(descriptor.clone())),
            ANY => return self.any(node, descriptor),
            name if name.starts_with("google.protobuf.") => {
                return self.well_known(node, descriptor);
            }
            _ => {}
        }
        let Tree::Map(entries) = &node.value else {
            return self
                .fail(node.mark, format!("expected a mapping ({})", descriptor.full_name()));
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        self.entries(entries, &mut message);
        Some(message)
    }

    fn entries(&mut self, entries: &[Entry], message: &mut DynamicMessage) {
        let descriptor = message.descriptor();
        for entry in entries {
            let by_name = descriptor.get_field_by_name(&entry.key);
            let Some(field) = by_name.or_else(|| descriptor.get_field_by_json_name(&entry.key))
            else {
                let step = self.field_step(&entry.key);
                let name = descriptor.full_name();
                self.below(step, |reader| {
                    reader.mistake(entry.mark, format!("{name} has no such field"));
                });
                continue;
            };
            let step = self.field_step(field.name());
            self.below(step, |reader| reader.field(entry, &field, message));
        }
    }

    fn field(&mut self, entry: &Entry, field: &FieldDescriptor, message: &mut DynamicMessage) {
        if entry.value.value == Tree::Null && !is_value(&field.kind()) {
            return;
        }
        if message.has_field(field) {
            return self.mistake(entry.mark, "is given twice, in both spellings");
        }
        let rival = field.containing_oneof().and_then(|group| {
            group.fields().find(|other| other != field && message.has_field(other))
        });
        if let Some(rival) = rival {
            let text = format!("cannot be set together with `{}`", rival.name());
            return self.mistake(entry.mark, text);
        }
        let value = if field.is_map() {
            self.map(&entry.value, field)
        } else if field.is_list() {
            self.list(&entry.value, field)
        } else {
            self.value(&entry.value, &field.kind())
        };
        if let Some(value) = value {
            message.set_field(field, value);
        }
    }

    fn list(&mut self, node: &Node, field: &FieldDescriptor) -> Option<Value> {
        let Tree::List(items) = &node.value else {
            return self.fail(node.mark, "expected a list");
        };
        let kind = field.kind();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let value = self.below(format!("[{index}]"), |reader| reader.value(item, &kind));
            values.extend(value);
        }
        Some(Value::List(values))
    }

    fn map(&mut self, node: &Node, field: &FieldDescriptor) -> Option<Value> {
        let Tree::Map(entries) = &node.value else {
            return self.fail(node.mark, "expected a mapping");
        };
        let Kind::Message(entry_type) = field.kind() else {
            return self.fail(node.mark, "expected a mapping");
        };
        let (keys, values) = (entry_type.map_entry_key_field(), entry_type.map_entry_value_field());
        let mut map = std::collections::HashMap::new();
        for entry in entries {
            let value = self.below(format!("[{:?}]", entry.key), |reader| {
                let key = reader.key(entry, &keys.kind());
                Some((key?, reader.value(&entry.value, &values.kind())?))
            });
            map.extend(value);
        }
        Some(Value::Map(map))
    }

    fn key(&mut self, entry: &Entry, kind: &Kind) -> Option<MapKey> {
        // Keys are strings in JSON whatever their type.
        let is_string = matches!(kind, Kind::String);
        match scalar::read(&entry.key, !is_string, kind) {
            Ok(Value::String(key)) => Some(MapKey::String(key)),
            Ok(Value::Bool(key)) => Some(MapKey::Bool(key)),
            Ok(Value::I32(key)) => Some(MapKey::I32(key)),
            Ok(Value::I64(key)) => Some(MapKey::I64(key)),
            Ok(Value::U32(key)) => Some(MapKey::U32(key)),
            Ok(Value::U64(key)) => Some(MapKey::U64(key)),
            Ok(_) => self.fail(entry.mark, "not a key"),
            Err(text) => self.fail(entry.mark, text),
        }
    }

    fn value(&mut self, node: &Node, kind: &Kind) -> Option<Value> {
        match (kind, &node.value) {
            (Kind::Message(message), _) => self.message(node, message).map(Value::Message),
            (kind, Tree::Scalar { text, plain }) => match scalar::read(text, *plain, kind) {
                Ok(value) => Some(value),
                Err(text) => self.fail(node.mark, text),
            },
            (kind, found) => {
                let text = format!("expected {}, found {}", kind_name(kind), tree_name(found));
                self.fail(node.mark, text)
            }
        }
    }

    fn any(&mut self, node: &Node, descriptor: &MessageDescriptor) -> Option<DynamicMessage> {
        let Tree::Map(entries) = &node.value else {
            return self.fail(node.mark, "expected a mapping with `@type`");
        };
        let Some(url) = node.value_of("@type") else {
            return self.fail(node.mark, "`@type` is missing");
        };
        let name = match &url.value {
            Tree::Scalar { text, .. } => text.rsplit_once('/').map(|(_, name)| name),
            _ => None,
        };
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            let text = format!("`@type` has to be `{URL_PREFIX}` and the name of a message");
            return self.fail(url.mark, text);
        };
        let mut any = DynamicMessage::new(descriptor.clone());
        any.set_field_by_name("type_url", Value::String(format!("{URL_PREFIX}{name}")));
        if let Some(inner) = self.pool.get_message_by_name(name) {
            let content = self.packed(entries, node.mark, &inner)?;
            any.set_field_by_name("value", Value::Bytes(content.encode_to_vec().into()));
        }
        Some(any)
    }

    fn packed(
        &mut self,
        entries: &[Entry],
        mark: Mark,
        inner: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        if inner.full_name().starts_with("google.protobuf.") {
            let value = entries.iter().find(|entry| entry.key == "value").map(|e| &e.value);
            let Some(value) = value else {
                return self.fail(mark, "`value` is missing");
            };
            let step = self.field_step("value");
            return self.below(step, |reader| reader.message(value, inner));
        }
        let fields: Vec<_> = entries.iter().filter(|entry| entry.key != "@type").cloned().collect();
        let mut message = DynamicMessage::new(inner.clone());
        self.entries(&fields, &mut message);
        Some(message)
    }

    fn well_known(
        &mut self,
        node: &Node,
        descriptor: &MessageDescriptor,
    ) -> Option<DynamicMessage> {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            DURATION => {
                let value = self.text(node, scalar::duration)?;
                message.set_field_by_name("seconds", Value::I64(value.seconds));
                message.set_field_by_name("nanos", Value::I32(value.nanos));
            }
            TIMESTAMP => {
                let value = self.text(node, scalar::timestamp)?;
                message.set_field_by_name("seconds", Value::I64(value.seconds));
                message.set_field_by_name("nanos", Value::I32(value.nanos));
            }
            VALUE => self.json_value(node, &mut message),
            "google.protobuf.Struct" => self.single(node, "fields", true, &mut message),
            "google.protobuf.ListValue" => self.single(node, "values", false, &mut message),
            "google.protobuf.Empty" => {
                if !matches!(&node.value, Tree::Map(entries) if entries.is_empty()) {
                    self.mistake(node.mark, "expected {}");
                }
            }
            // The wrappers are written as the one value they hold.
            _ => {
                let field = descriptor.get_field_by_name("value")?;
                let value = self.value(node, &field.kind())?;
                message.set_field(&field, value);
            }
        }
        Some(message)
    }

    fn text<T>(&mut self, node: &Node, read: fn(&str) -> Result<T, String>) -> Option<T> {
        let Tree::Scalar { text, plain } = &node.value else {
            let text = format!("expected a string, found {}", tree_name(&node.value));
            return self.fail(node.mark, text);
        };
        match scalar::string(text, *plain).and_then(|text| read(&text)) {
            Ok(value) => Some(value),
            Err(_) if *plain && scalar::plain(text) != Plain::Text => {
                self.fail(node.mark, read(text).err().unwrap_or_default())
            }
            Err(text) => self.fail(node.mark, text),
        }
    }

    /// The only field of a `Struct` or `ListValue`, of which the path says nothing.
    fn single(&mut self, node: &Node, name: &str, map: bool, message: &mut DynamicMessage) {
        let Some(field) = message.descriptor().get_field_by_name(name) else { return };
        let value = if map { self.map(node, &field) } else { self.list(node, &field) };
        if let Some(value) = value {
            message.set_field(&field, value);
        }
    }

    fn json_value(&mut self, node: &Node, message: &mut DynamicMessage) {
        let (name, value) = match &node.value {
            Tree::Null => ("null_value", Some(Value::EnumNumber(0))),
            Tree::List(_) => return self.nested_value(node, "list_value", message),
            Tree::Map(_) => return self.nested_value(node, "struct_value", message),
            Tree::Scalar { text, plain: true } => match scalar::plain(text) {
                Plain::Bool(value) => ("bool_value", Some(Value::Bool(value))),
                // As in Envoy, what a double cannot hold stays a string of digits.
                Plain::Integer(value) if i32::try_from(value).is_err() => {
                    ("string_value", Some(Value::String(value.to_string())))
                }
                Plain::Integer(_) | Plain::Number(_) => {
                    ("number_value", scalar::read(text, true, &Kind::Double).ok())
                }
                Plain::Text => ("string_value", Some(Value::String(text.clone()))),
            },
            Tree::Scalar { text, plain: false } => {
                ("string_value", Some(Value::String(text.clone())))
            }
        };
        if let Some(value) = value {
            message.set_field_by_name(name, value);
        }
    }

    fn nested_value(&mut self, node: &Node, name: &str, message: &mut DynamicMessage) {
        let Some(field) = message.descriptor().get_field_by_name(name) else { return };
        if let Some(value) = self.value(node, &field.kind()) {
            message.set_field(&field, value);
        }
    }
}

fn is_value(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if message.full_name() == VALUE)
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double | Kind::Float => "a number",
        Kind::Bool => "true or false",
        Kind::String | Kind::Enum(_) => "a string",
        Kind::Bytes => "base64",
        Kind::Message(_) => "a mapping",
        _ => "an integer",
    }
}

fn tree_name(tree: &Tree) -> &'static str {
    match tree {
        Tree::Null => "nothing",
        Tree::Scalar { .. } => "a scalar",
        Tree::List(_) => "a list",
        Tree::Map(_) => "a mapping",
    }
}
