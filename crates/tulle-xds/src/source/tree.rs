//! YAML or JSON text as a tree in which every node knows where it stands.
//!
//! JSON is read by the YAML parser, of which it is a subset, so both have positions. Anchors and
//! aliases are followed; a document that would grow by them beyond [`MAX_NODES`] is refused.
//! As Envoy does, an entry whose value is tagged `!ignore` is left out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

/// Nesting of a document, levels.
pub const MAX_DEPTH: usize = 100;
/// Nodes of a document after its aliases are followed.
pub const MAX_NODES: usize = 2_000_000;

/// A position in one of the texts that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Which text, counted from 0.
    pub source: usize,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub mark: Mark,
    /// What.
    pub value: Tree,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// `null`, `~` or nothing.
    Null,
    /// A scalar. One that is not plain (quoted, or a block) is always a string.
    Scalar {
        /// Its text.
        text: String,
        /// Neither quoted nor a block.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order; keys are distinct.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Where the key stands.
    pub mark: Mark,
    /// Its value.
    pub value: Node,
}

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeError {
    /// Where.
    pub mark: Mark,
    /// What is wrong.
    pub text: String,
}

impl Node {
    /// The value under `key`, for a mapping that has it.
    #[must_use]
    pub fn value_of(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Tree::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Tree::Null | Tree::Scalar { .. } => 0,
            Tree::List(items) => items.iter().map(Self::count).sum(),
            Tree::Map(entries) => entries.iter().map(|entry| entry.value.count()).sum(),
        }
    }
}

/// Reads the only document of `text`; marks carry `source`. An empty text is an empty mapping.
///
/// # Errors
/// The first place where it is not one document of YAML.
pub fn parse(text: &str, source: usize) -> Result<Node, TreeError> {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), source, anchors: HashMap::new(), nodes: 0 };
    reader.document()
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    source: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, TreeError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event if root.is_none() => root = Some(self.node(event, span, 0)?.0),
                _ => return Err(self.error(span.start, "a second document in one text")),
            }
        }
        let start = Mark { source: self.source, line: 1, column: 1 };
        Ok(root.unwrap_or(Node { mark: start, value: Tree::Map(Vec::new()) }))
    }

    /// The node that begins with `event`, and whether it is to be left out.
    fn node(
        &mut self,
        event: Event<'a>,
        span: Span,
        depth: usize,
    ) -> Result<(Node, bool), TreeError> {
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(self.error(span.start, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let mark = self.mark(span.start);
        let (value, anchor, tag) = match event {
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.error(span.start, "an alias inside its own anchor"));
                };
                self.nodes += node.count();
                (node.value, 0, None)
            }
            Event::Scalar(text, style, anchor, tag) => (scalar(text, style, &tag), anchor, tag),
            Event::SequenceStart(anchor, tag) => (self.list(depth)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.map(depth)?, anchor, tag),
            _ => return Err(self.error(span.start, "unexpected end of the text")),
        };
        if self.nodes > MAX_NODES {
            return Err(self.error(span.start, format!("more than {MAX_NODES} values")));
        }
        let node = Node { mark, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok((node, tag.is_some_and(|tag| tag.handle == "!" && tag.suffix == "ignore")))
    }

    fn list(&mut self, depth: usize) -> Result<Tree, TreeError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Tree::List(items));
            }
            let (node, ignored) = self.node(event, span, depth + 1)?;
            if !ignored {
                items.push(node);
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Tree, TreeError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Tree::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(self.error(span.start, "a key has to be a string")),
            };
            let mark = self.mark(span.start);
            if !seen.insert(key.clone()) {
                return Err(self.error(span.start, format!("`{key}` is given twice")));
            }
            let (event, span) = self.next()?;
            let (value, ignored) = self.node(event, span, depth + 1)?;
            if !ignored {
                entries.push(Entry { key, mark, value });
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), TreeError> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.error(*error.marker(), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn mark(&self, marker: Marker) -> Mark {
        Mark { source: self.source, line: marker.line(), column: marker.col() + 1 }
    }

    fn error(&self, marker: Marker, text: impl Into<String>) -> TreeError {
        TreeError { mark: self.mark(marker), text: text.into() }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: &Option<Cow<'_, Tag>>) -> Tree {
    let string = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    let plain = style == ScalarStyle::Plain && !string;
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" if plain => Tree::Null,
        _ => Tree::Scalar { text: text.into_owned(), plain },
    }
}

/// `over` laid over `base`, as Envoy merges `--config-yaml` into the file: mappings entry by
/// entry, sequences one after the other, everything else replaced. A mapping with `@type` is one
/// value and is replaced.
#[must_use]
pub fn merge(base: Node, over: Node, same: &dyn Fn(&str, &str) -> bool) -> Node {
    match (base.value, over.value) {
        (base_value, Tree::Null) => Node { mark: base.mark, value: base_value },
        (Tree::List(mut items), Tree::List(more)) => {
            items.extend(more);
            Node { mark: base.mark, value: Tree::List(items) }
        }
        (Tree::Map(mut entries), Tree::Map(more)) if !is_typed(&more) => {
            for entry in more {
                let known = entries.iter_mut().find(|known| same(&known.key, &entry.key));
                let Some(known) = known else {
                    entries.push(entry);
                    continue;
                };
                if !matches!(entry.value.value, Tree::Null | Tree::List(_) | Tree::Map(_)) {
                    known.mark = entry.mark;
                }
                let empty = Node { mark: known.mark, value: Tree::Null };
                let base = std::mem::replace(&mut known.value, empty);
                known.value = merge(base, entry.value, same);
            }
            Node { mark: base.mark, value: Tree::Map(entries) }
        }
        (_, value) => Node { mark: over.mark, value },
    }
}

fn is_typed(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| entry.key == "@type")
}
