//! Canonical text of an object: JSON with sorted keys, without what Kubernetes writes itself.

use crate::tree::{Node, Scalar, Style, Value};

/// Top-level fields that are not the author's.
const LEFT_OUT: &[&str] = &["status"];
/// Metadata that are the author's.
const METADATA: &[&str] = &["annotations", "labels", "name", "namespace"];

/// Writes an object so that equal content has equal text.
pub fn canonical(root: &Node) -> String {
    let mut out = String::new();
    write_map(root, &mut out, Level::Object);
    out
}

fn write(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Scalar(scalar) => match typed(scalar) {
            Some(text) => out.push_str(&text),
            None => write_text(&scalar.text, out),
        },
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(item, out);
            }
            out.push(']');
        }
        Value::Map(_) => write_map(node, out, Level::Below),
    }
}

/// A number or boolean in JSON's spelling.
fn typed(scalar: &Scalar) -> Option<String> {
    if scalar.style != Style::Plain {
        return None;
    }
    let lower = scalar.text.to_ascii_lowercase();
    if matches!(lower.as_str(), "true" | "false") {
        return Some(lower);
    }
    if let Ok(integer) = lower.parse::<i128>() {
        return Some(integer.to_string());
    }
    let numeric = lower.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let number = lower.parse::<f64>().ok().filter(|number| numeric && number.is_finite())?;
    Some(format!("{number:?}"))
}

fn write_map(node: &Node, out: &mut String, level: Level) {
    let Value::Map(entries) = &node.value else { return write(node, out) };
    let mut entries: Vec<_> = entries.iter().collect();
    entries.retain(|entry| level.keeps(&entry.key) && entry.value.value != Value::Null);
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    out.push('{');
    for (index, entry) in entries.into_iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "," });
        write_text(&entry.key, out);
        out.push(':');
        let metadata = matches!(level, Level::Object) && entry.key == "metadata";
        write_map(&entry.value, out, if metadata { Level::Metadata } else { Level::Below });
    }
    out.push('}');
}

/// Which map of an object is written.
#[derive(Clone, Copy)]
enum Level {
    Object,
    Metadata,
    Below,
}

impl Level {
    fn keeps(self, key: &str) -> bool {
        match self {
            Level::Object => !LEFT_OUT.contains(&key),
            Level::Metadata => METADATA.contains(&key),
            Level::Below => true,
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    // Writing a string as JSON cannot fail.
    out.push_str(&serde_json::Value::from(text).to_string());
}
