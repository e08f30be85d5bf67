//! JSON (RFC 8259) to the marked tree: strict, one or more values in a text.
//!
//! Read on its own and not as YAML, because JSON allows what YAML does not: tabs as indentation
//! and characters written as surrogate pairs.

use super::{
    Budget, Document, Entry, Fault, MAX_DEPTH, Node, Position, Scalar, Style, Value,
    refuse_duplicates, too_deep,
};
use crate::diagnostic::Code;

/// Reads every value of a JSON text.
pub(super) fn parse(text: &str) -> Vec<Result<Document, Fault>> {
    let mut reader = Reader { rest: text, at: Position::START, faults: Vec::new() };
    let mut documents = Vec::new();
    loop {
        reader.skip_space();
        if reader.rest.is_empty() {
            return documents;
        }
        match reader.value(0, &mut Budget::default()) {
            Ok(root) => {
                let faults = std::mem::take(&mut reader.faults);
                documents.push(Ok(Document { root, faults }));
            }
            Err(fault) => {
                documents.push(Err(fault));
                return documents;
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    at: Position,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn fault(&self, message: &str) -> Fault {
        Fault {
            code: Code::Syntax,
            at: self.at,
            path: String::new(),
            message: format!("not readable as JSON: {message}"),
            help: "check quotes, commas and brackets at this place".into(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let char = chars.next()?;
        self.rest = chars.as_str();
        if char == '\n' {
            self.at = Position { line: self.at.line.saturating_add(1), column: 1 };
        } else {
            self.at.column = self.at.column.saturating_add(1);
        }
        Some(char)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r' | '\n')) {
            self.next();
        }
    }

    fn value(&mut self, depth: usize, budget: &mut Budget) -> Result<Node, Fault> {
        self.skip_space();
        let at = self.at;
        budget.spend(1, at)?;
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let value = match self.peek() {
            Some('{') => self.map(depth, budget)?,
            Some('[') => self.list(depth, budget)?,
            Some('"') => Value::Scalar(Scalar { text: self.string()?, style: Style::Quoted }),
            Some(_) => self.word()?,
            None => return Err(self.fault("a value is missing")),
        };
        Ok(Node { at, value })
    }

    fn map(&mut self, depth: usize, budget: &mut Budget) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        self.next();
        self.skip_space();
        if self.peek() == Some('}') {
            self.next();
            return Ok(Value::Map(entries));
        }
        loop {
            self.skip_space();
            let key_at = self.at;
            if self.peek() != Some('"') {
                return Err(self.fault("a key in double quotes is missing"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.next() != Some(':') {
                return Err(self.fault("a colon is missing"));
            }
            let value = self.value(depth + 1, budget)?;
            entries.push(Entry { key, key_at, value });
            if self.closes('}')? {
                refuse_duplicates(&mut entries, &mut self.faults);
                return Ok(Value::Map(entries));
            }
        }
    }

    fn list(&mut self, depth: usize, budget: &mut Budget) -> Result<Value, Fault> {
        let mut items = Vec::new();
        self.next();
        self.skip_space();
        if self.peek() == Some(']') {
            self.next();
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1, budget)?);
            if self.closes(']')? {
                return Ok(Value::List(items));
            }
        }
    }

    fn closes(&mut self, end: char) -> Result<bool, Fault> {
        self.skip_space();
        match self.peek() {
            Some(',') => {
                self.next();
                Ok(false)
            }
            Some(found) if found == end => {
                self.next();
                Ok(true)
            }
            _ => Err(self.fault(&format!("a comma or `{end}` is missing"))),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Result<Value, Fault> {
        let end = |char: char| !(char.is_ascii_alphanumeric() || "+-.".contains(char));
        let length = self.rest.find(end).unwrap_or(self.rest.len());
        let text = &self.rest[..length];
        if serde_json::from_str::<serde_json::Value>(text).is_err() {
            return Err(self.fault("neither a string, a number, true, false nor null"));
        }
        for _ in text.chars() {
            self.next();
        }
        match text {
            "null" => Ok(Value::Null),
            _ => Ok(Value::Scalar(Scalar { text: text.into(), style: Style::Plain })),
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        let begin = self.rest;
        self.next();
        loop {
            match self.next() {
                Some('"') => break,
                Some('\\') => {
                    self.next();
                }
                Some(char) if char < ' ' => return Err(self.fault("a bare control character")),
                Some(_) => {}
                None => return Err(self.fault("a string is not closed")),
            }
        }
        let literal = &begin[..begin.len() - self.rest.len()];
        serde_json::from_str(literal).map_err(|_| self.fault("a wrong escape in a string"))
    }
}
