//! Messages from files: YAML or JSON in, generated messages out, each mistake with its place.
//!
//! The proxy reads its bootstrap here and tests read single resources. Descriptors are loaded for
//! the call and dropped after it; the serving process keeps none of them. What comes out is checked
//! against the messages only; what their fields mean is up to the decoders, which name a field by
//! its path. [`Positions`] says where that stands.

use std::fmt;

use prost_reflect::DescriptorPool;

use crate::fields::Finding;
use crate::proto::{DESCRIPTORS, Packed};

mod message;
mod scalar;
mod tree;

pub use tree::Mark;
use tree::{Node, Tree, TreeError};

/// Longest text that is read, bytes.
pub const MAX_SOURCE_BYTES: usize = 64 * 1024 * 1024;

/// One text to read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What errors call it: a file name, or the option it came from.
    pub name: &'a str,
    /// YAML or JSON.
    pub text: &'a str,
}

/// A message and where its fields stand.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The message.
    pub message: T,
    /// The texts it came from.
    pub positions: Positions,
}

/// Where the fields of a message stand in the texts it was read from.
#[derive(Clone, Debug)]
pub struct Positions {
    root: Node,
    names: Vec<String>,
}

/// Something wrong in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// Name of the text.
    pub source: String,
    /// Where, if it is known.
    pub mark: Option<Mark>,
    /// Path of the field; empty for the text as a whole.
    pub path: String,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(mark) = self.mark {
            write!(f, ":{mark}")?;
        }
        f.write_str(": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for SourceError {}

/// Everything that was wrong; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceErrors(pub Vec<SourceError>);

impl fmt::Display for SourceErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SourceErrors {}

/// Reads a message out of `sources`, each laid over the ones before it as Envoy lays
/// `--config-yaml` over its file: mappings are merged, lists continued, other values replaced.
///
/// # Errors
/// Every mistake with its place: no YAML, unknown fields, values of a wrong type.
pub fn load<T: Packed>(sources: &[Source<'_>]) -> Result<Loaded<T>, SourceErrors> {
    let names: Vec<String> = sources.iter().map(|source| source.name.to_owned()).collect();
    let positions = Positions { root: parse(sources)?, names };
    let message = {
        let pool = DescriptorPool::decode(DESCRIPTORS)
            .map_err(|error| positions.whole(format!("descriptors: {error}")))?;
        let name = T::TYPE_URL.rsplit('/').next().unwrap_or_default();
        let dynamic = message::read(&pool, name, &positions.root)
            .map_err(|mistakes| positions.errors(mistakes))?;
        dynamic.transcode_to().map_err(|error| positions.whole(error.to_string()))?
    };
    Ok(Loaded { message, positions })
}

fn parse(sources: &[Source<'_>]) -> Result<Node, SourceErrors> {
    let mut root = Node { mark: Mark::default(), value: Tree::Map(Vec::new()) };
    for (index, source) in sources.iter().enumerate() {
        let error = |mark, text| {
            let source = source.name.to_owned();
            SourceErrors(vec![SourceError { source, mark, path: String::new(), text }])
        };
        if source.text.len() > MAX_SOURCE_BYTES {
            return Err(error(None, format!("longer than {MAX_SOURCE_BYTES} bytes")));
        }
        let over = tree::parse(source.text, index)
            .map_err(|TreeError { mark, text }| error(Some(mark), text))?;
        root = if index == 0 { over } else { tree::merge(root, over, &message::same_name) };
    }
    Ok(root)
}

impl Positions {
    /// Where the field at `path` stands, or the closest one above it that is written out.
    #[must_use]
    pub fn find(&self, path: &str) -> Mark {
        let mut node = &self.root;
        let mut mark = node.mark;
        for step in steps(path) {
            let next = match (&node.value, step) {
                (Tree::Map(entries), PathStep::Name(name)) => entries
                    .iter()
                    .find(|entry| message::same_name(&entry.key, name))
                    .map(|entry| (entry.mark, &entry.value)),
                (Tree::Map(entries), PathStep::Key(key)) => entries
                    .iter()
                    .find(|entry| format!("{:?}", entry.key) == key)
                    .map(|entry| (entry.mark, &entry.value)),
                (Tree::List(items), PathStep::Index(index)) => {
                    items.get(index).map(|item| (item.mark, item))
                }
                _ => None,
            };
            let Some(next) = next else { break };
            (mark, node) = next;
        }
        mark
    }

    /// A decoder's finding as an error in the text.
    #[must_use]
    pub fn locate(&self, finding: &Finding) -> SourceError {
        let mark = self.find(&finding.path);
        SourceError {
            source: self.name(mark),
            mark: Some(mark),
            path: finding.path.clone(),
            text: finding.text.clone(),
        }
    }

    fn name(&self, mark: Mark) -> String {
        self.names.get(mark.source).cloned().unwrap_or_default()
    }

    fn errors(&self, mistakes: Vec<message::Mistake>) -> SourceErrors {
        let error = |mistake: message::Mistake| SourceError {
            source: self.name(mistake.mark),
            mark: Some(mistake.mark),
            path: mistake.path,
            text: mistake.text,
        };
        SourceErrors(mistakes.into_iter().map(error).collect())
    }

    fn whole(&self, text: String) -> SourceErrors {
        let source = self.names.first().cloned().unwrap_or_default();
        SourceErrors(vec![SourceError { source, mark: None, path: String::new(), text }])
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PathStep<'a> {
    Name(&'a str),
    Index(usize),
    /// As it stands in the path, in quotes.
    Key(&'a str),
}

/// The steps of a path as [`crate::fields::At`] writes it: `a.b[0].c["k"]`.
fn steps(path: &str) -> impl Iterator<Item = PathStep<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(inside) = rest.strip_prefix("[\"") {
            let end = 2 + quote_end(inside)?;
            let key = rest.get(1..end)?;
            rest = rest.get(end + 1..)?;
            return Some(PathStep::Key(key));
        }
        if let Some(inside) = rest.strip_prefix('[') {
            let (index, after) = inside.split_once(']')?;
            rest = after;
            return index.parse().ok().map(PathStep::Index);
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        (!name.is_empty()).then_some(PathStep::Name(name))
    })
}

/// The index after the closing quote of a quoted key, whose opening quote is already passed.
fn quote_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
