//! YAML to the marked tree: documents are cut at their `---` lines first, so that a broken one
//! cannot take its neighbours with it, then each is built from parser events with a stack.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{
    Budget, Document, Entry, Fault, MAX_DEPTH, MAX_DOCUMENTS, Node, Position, Scalar, Style, Value,
    refuse_duplicates, too_deep,
};
use crate::diagnostic::Code;

/// Reads every document of a YAML text.
pub(super) fn parse(text: &str) -> Vec<Result<Document, Fault>> {
    let mut documents = Vec::new();
    for (line, chunk) in split(text) {
        if documents.len() == MAX_DOCUMENTS {
            documents.push(Err(Fault {
                code: Code::FileTooLarge,
                at: Position { line: line + 1, column: 1 },
                path: String::new(),
                message: format!("the file has more than {MAX_DOCUMENTS} documents"),
                help: "split it into several files".into(),
            }));
            break;
        }
        match Builder::new(line).build(chunk) {
            Ok(Some(document)) => documents.push(Ok(document)),
            Ok(None) => {}
            Err(fault) => documents.push(Err(fault)),
        }
    }
    documents
}

/// Cuts a stream at its document markers; each part comes with the number of lines before it.
///
/// A line that begins with `---` or `...` is a marker wherever it stands (YAML 1.2.2, rule
/// `c-forbidden`), so this needs no knowledge of what surrounds it.
fn split(text: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut begin, mut begin_line) = (0, 0);
    let (mut offset, mut line) = (0, 0);
    for row in text.split_inclusive('\n') {
        let marker = row.starts_with("---") || row.starts_with("...");
        let is_marker = marker && row[3..].chars().next().is_none_or(char::is_whitespace);
        if is_marker {
            parts.push((begin_line, &text[begin..offset]));
            // What follows `---` on its line belongs to the document; `...` only closes one.
            let skip = if row.starts_with("...") { row.len() } else { 0 };
            begin = offset + skip;
            begin_line = line + u32::from(skip > 0);
        }
        offset += row.len();
        line += 1;
    }
    parts.push((begin_line, &text[begin..]));
    parts.retain(|(_, part)| !is_blank(part));
    parts
}

fn is_blank(part: &str) -> bool {
    part.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "---"
    })
}

/// An open list or map.
enum Frame {
    List { at: Position, items: Vec<Node>, anchor: usize },
    Map { at: Position, entries: Vec<Entry>, key: Option<Key>, merge: Vec<Node>, anchor: usize },
}

struct Key {
    text: String,
    at: Position,
    merge: bool,
}

struct Builder {
    lines_before: u32,
    frames: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, usize)>,
    faults: Vec<Fault>,
    budget: Budget,
}

impl Builder {
    fn new(lines_before: u32) -> Self {
        Builder {
            lines_before,
            frames: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            faults: Vec::new(),
            budget: Budget::default(),
        }
    }

    fn build(mut self, text: &str) -> Result<Option<Document>, Fault> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            self.take(event, span)?;
        }
        let faults = self.faults;
        Ok(self.root.map(|root| Document { root, faults }))
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        Fault {
            code: Code::Syntax,
            at: self.position(error.marker().line(), error.marker().col()),
            path: String::new(),
            message: format!("not readable as YAML: {}", error.info()),
            help: "check indentation, quotes and brackets at this place".into(),
        }
    }

    fn position(&self, line: usize, column: usize) -> Position {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Position {
            line: narrow(line).saturating_add(self.lines_before),
            column: narrow(column).saturating_add(1),
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = self.position(span.start.line(), span.start.col());
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => {
                let style = scalar_style(style, tag.as_deref(), at)?;
                self.scalar(Scalar { text: text.into_owned(), style }, anchor, at)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), at)?;
                self.open(Frame::List { at, items: Vec::new(), anchor }, at)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), at)?;
                let (entries, merge) = (Vec::new(), Vec::new());
                self.open(Frame::Map { at, entries, key: None, merge, anchor }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn open(&mut self, frame: Frame, at: Position) -> Result<(), Fault> {
        if let Some(Frame::Map { key: None, .. }) = self.frames.last() {
            return Err(bad_key(at));
        }
        if self.frames.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.frames.push(frame);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let (node, anchor) = match self.frames.pop() {
            None => return Ok(()),
            Some(Frame::List { at, items, anchor }) => {
                (Node { at, value: Value::List(items) }, anchor)
            }
            Some(Frame::Map { at, mut entries, key: _, merge, anchor }) => {
                refuse_duplicates(&mut entries, &mut self.faults);
                merge_into(&mut entries, merge)?;
                (Node { at, value: Value::Map(entries) }, anchor)
            }
        };
        self.complete(node, anchor)
    }

    fn scalar(&mut self, scalar: Scalar, anchor: usize, at: Position) -> Result<(), Fault> {
        if let Some(Frame::Map { key: key @ None, .. }) = self.frames.last_mut() {
            let merge = scalar.style == Style::Plain && scalar.text == "<<";
            *key = Some(Key { text: scalar.text, at, merge });
            return Ok(());
        }
        let null = matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        let is_null = scalar.style == Style::Plain && null;
        let value = if is_null { Value::Null } else { Value::Scalar(scalar) };
        self.complete(Node { at, value }, anchor)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Fault> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return Err(Fault {
                code: Code::UnsupportedYaml,
                at,
                path: String::new(),
                message: "the alias refers to a value that contains it".into(),
                help: "write the value out".into(),
            });
        };
        // Counted before it is copied: an expansion bomb stops here, not in memory.
        self.budget.spend(*size, at)?;
        let node = node.clone();
        if depth(&node) + self.frames.len() > MAX_DEPTH {
            return Err(too_deep(at));
        }
        if let Some(Frame::Map { key: None, .. }) = self.frames.last() {
            return Err(bad_key(at));
        }
        self.complete(node, 0)
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.budget.spend(1, node.at)?;
        if anchor != 0 {
            let size = count(&node);
            self.budget.spend(size, node.at)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, merge, .. }) => match key.take() {
                None => return Err(bad_key(node.at)),
                Some(key) if key.merge => merge.push(node),
                Some(key) => {
                    entries.push(Entry { key: key.text, key_at: key.at, value: node });
                }
            },
        }
        Ok(())
    }
}

fn scalar_style(style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Result<Style, Fault> {
    refuse_tag(tag, at)?;
    let plain = tag.map_or(style == ScalarStyle::Plain, |tag| tag.suffix != "str");
    Ok(if plain { Style::Plain } else { Style::Quoted })
}

fn refuse_tag(tag: Option<&Tag>, at: Position) -> Result<(), Fault> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema() => Ok(()),
        Some(tag) => Err(Fault {
            code: Code::UnsupportedYaml,
            at,
            path: String::new(),
            message: format!("the tag {tag} has no meaning here"),
            help: "remove the tag".into(),
        }),
    }
}

fn bad_key(at: Position) -> Fault {
    Fault {
        code: Code::UnsupportedYaml,
        at,
        path: String::new(),
        message: "a key is not plain text".into(),
        help: "write the key as text; `${…}`, `{{…}}` need quotes".into(),
    }
}

/// Applies `<<` merge keys: what the map says itself wins, then the earlier merged map.
fn merge_into(entries: &mut Vec<Entry>, merge: Vec<Node>) -> Result<(), Fault> {
    for node in merge {
        let maps = match node.value {
            Value::List(items) => items,
            Value::Map(_) => vec![node],
            Value::Null | Value::Scalar(_) => return Err(bad_merge(node.at)),
        };
        for map in maps {
            let Value::Map(merged) = map.value else { return Err(bad_merge(map.at)) };
            for entry in merged {
                if entries.iter().all(|own| own.key != entry.key) {
                    entries.push(entry);
                }
            }
        }
    }
    Ok(())
}

fn bad_merge(at: Position) -> Fault {
    Fault {
        code: Code::UnsupportedYaml,
        at,
        path: "<<".into(),
        message: "a merge key takes a map or a list of maps".into(),
        help: "write `<<: *name` where `&name` marks a map".into(),
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null | Value::Scalar(_) => 0,
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Scalar(_) => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => {
            1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0)
        }
    }
}
