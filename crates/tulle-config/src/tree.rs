//! The marked tree: what every configuration file becomes before anything looks at its meaning.
//!
//! First step of the configuration story (`tree` → `reader` → `istio` → `world` → `translate`).
//! YAML and JSON are read into the same [`Node`]s, each of which knows the line and column it
//! stands at, so that every later finding can name a place. Numbers and booleans stay text until
//! a reader asks for one: a file is never "helpfully" retyped.

mod json;
mod substitute;
mod yaml;

use crate::diagnostic::Code;

pub use substitute::{Variable, loosen, substitute};

/// Largest configuration file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;
/// Deepest nesting of lists and maps in one document, in levels.
pub const MAX_DEPTH: usize = 64;
/// Most nodes of one document after its aliases are expanded, in nodes.
pub const MAX_NODES: usize = 200_000;
/// Most documents in one file, in documents.
pub const MAX_DOCUMENTS: usize = 50_000;

/// A place in a file: both numbers begin at 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Position {
    /// The beginning of a file.
    pub const START: Position = Position { line: 1, column: 1 };
}

/// One value of a document and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the value begins.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// The shapes a value can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: `null`, `~` or an empty place.
    Null,
    /// A single value, as text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file, without duplicate keys.
    Map(Vec<Entry>),
}

/// A single value as the file spells it, escapes resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text.
    pub text: String,
    /// How it was written.
    pub style: Style,
}

/// How a scalar was written, which decides what it may be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: a number or boolean if it looks like one, else text.
    Plain,
    /// With quotes or as a block: text.
    Quoted,
    /// From a variable: whatever the field asks for.
    Variable,
}

/// One field of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands: what a finding about the field points at.
    pub key_at: Position,
    /// The value.
    pub value: Node,
}

impl Node {
    /// The entry of a map with this key; `None` for anything that is not a map.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Value::Null | Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The scalar text under a key, if it is one.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.value.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Something wrong with a document itself, before its meaning is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which finding.
    pub code: Code,
    /// Where.
    pub at: Position,
    /// Path of the field it concerns, or empty.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// One document of a file: its tree, and the faults that leave a tree (a duplicate key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The tree; the later of two equal keys is not in it.
    pub root: Node,
    /// What is wrong although the document could be read.
    pub faults: Vec<Fault>,
}

/// Reads a file into its documents.
///
/// A `.json` file holds one or more JSON values, anything else is YAML. A document that cannot be
/// read is one `Err`; the others of the same file are not affected. Empty documents are left out.
pub fn parse(path: &str, text: &str) -> Vec<Result<Document, Fault>> {
    if text.len() > MAX_FILE_BYTES {
        return vec![Err(Fault {
            code: Code::FileTooLarge,
            at: Position::START,
            path: String::new(),
            message: format!("the file has {} bytes, the limit is {MAX_FILE_BYTES}", text.len()),
            help: "split it into several files".into(),
        })];
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = path.rsplit('.').next().is_some_and(|end| end.eq_ignore_ascii_case("json"));
    if is_json { json::parse(text) } else { yaml::parse(text) }
}

/// Counts nodes against [`MAX_NODES`] while a document is built.
#[derive(Debug, Default)]
struct Budget {
    nodes: usize,
}

impl Budget {
    fn spend(&mut self, nodes: usize, at: Position) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Fault {
            code: Code::TooManyNodes,
            at,
            path: String::new(),
            message: format!("the document has more than {MAX_NODES} values after its aliases"),
            help: "split it, or write the repeated parts out without aliases".into(),
        })
    }
}

fn too_deep(at: Position) -> Fault {
    Fault {
        code: Code::TooDeep,
        at,
        path: String::new(),
        message: format!("nested deeper than {MAX_DEPTH} levels"),
        help: "flatten the document".into(),
    }
}

/// Takes the later of two equal keys out of a map and says so.
fn refuse_duplicates(entries: &mut Vec<Entry>, faults: &mut Vec<Fault>) {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by(|a, b| entries[*a].key.cmp(&entries[*b].key).then(a.cmp(b)));
    let mut later: Vec<usize> = Vec::new();
    let mut first = 0;
    for (rank, index) in order.iter().enumerate() {
        if rank == 0 || entries[*index].key != entries[first].key {
            first = *index;
            continue;
        }
        let earlier = entries[first].key_at;
        faults.push(Fault {
            code: Code::DuplicateKey,
            at: entries[*index].key_at,
            path: entries[*index].key.clone(),
            message: format!(
                "the key is already set at line {}, column {}",
                earlier.line, earlier.column
            ),
            help: "keep one of the two".into(),
        });
        later.push(*index);
    }
    later.sort_unstable();
    for index in later.into_iter().rev() {
        entries.remove(index);
    }
}

#[cfg(test)]
mod tests;
