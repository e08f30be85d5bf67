//! Reading: what one file says, whatever other files say.

use std::sync::Arc;

use super::{LoadedObject, Lookup, Source, envelope};
use crate::diagnostic::{Code, Diagnostic};
use crate::object::ObjectId;
use crate::reader::{Report, Schema};
use crate::tree::{self, Document, Fault, Node, Position, Value};

/// What one file says.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) path: Arc<str>,
    /// Every object that was recognised, in order; nothing where it was refused.
    pub(super) objects: Vec<(ObjectId, Option<LoadedObject>)>,
    /// Whether a part of it is not recognised as an object.
    pub(super) unreadable: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) schema: Schema,
}

impl Reading {
    /// Reads a file; without `lookup` as a store kept it, variables replaced.
    pub(super) fn of(path: &Arc<str>, text: &str, lookup: Option<Lookup<'_>>) -> Self {
        let mut reading = Self {
            path: Arc::clone(path),
            objects: Vec::new(),
            unreadable: false,
            diagnostics: Vec::new(),
            schema: Schema::default(),
        };
        if text.trim_ascii().is_empty() {
            reading.unreadable = true;
            reading.report(empty());
        }
        for document in tree::parse(path, text) {
            match document {
                Ok(document) => reading.add(document, lookup),
                Err(fault) => {
                    reading.unreadable = true;
                    reading.report(fault);
                }
            }
        }
        reading
    }

    fn add(&mut self, mut document: Document, lookup: Option<Lookup<'_>>) {
        match lookup {
            Some(lookup) => tree::substitute(&mut document, lookup),
            None => tree::loosen(&mut document.root),
        }
        let Document { root, faults } = document;
        let items = match envelope::list_items(root) {
            Ok(items) => items,
            Err(root) if root.value == Value::Null => return,
            Err(root) => return self.take(root, faults),
        };
        // A fault belongs to the last item that begins before it.
        let mut faults_of: Vec<Vec<Fault>> = items.iter().map(|_| Vec::new()).collect();
        for fault in faults {
            let index = items.iter().rposition(|item| item.at <= fault.at).unwrap_or(0);
            match faults_of.get_mut(index) {
                Some(slot) => slot.push(fault),
                None => self.report(fault),
            }
        }
        for (item, faults) in items.into_iter().zip(faults_of) {
            self.take(item, faults);
        }
    }

    fn take(&mut self, root: Node, faults: Vec<Fault>) {
        let mut report = Report::new(&self.path);
        let id = envelope::identify(&root);
        if let Some(id) = &id {
            report.set_object(id.clone());
        }
        let faulty = !faults.is_empty();
        for fault in faults {
            report.add(fault);
        }
        let object = envelope::read(&mut report, &root);
        let refused = faulty || report.has_errors();
        let (found, schema) = report.into_parts();
        self.diagnostics.extend(found);
        for (message, fields) in schema {
            self.schema.entry(message).or_default().extend(fields);
        }
        let Some(id) = id else {
            self.unreadable = true;
            return;
        };
        let source = Source { file: Arc::clone(&self.path), root: Arc::new(root) };
        let object = object.filter(|_| !refused);
        let loaded = object.map(|object| LoadedObject { object: Arc::new(object), source });
        self.objects.push((id, loaded));
    }

    fn report(&mut self, fault: Fault) {
        let Fault { code, at, path, message, help } = fault;
        self.diagnostics.push(Diagnostic {
            code,
            severity: code.severity(),
            file: self.path.to_string(),
            at,
            object: None,
            path,
            message,
            help,
        });
    }
}

/// Whoever writes a file in place empties it first. To take its objects for deleted would be an
/// outage each time, and for good if this process ended in that moment.
fn empty() -> Fault {
    Fault {
        code: Code::EmptyFile,
        at: Position::START,
        path: String::new(),
        message: "the file is empty".to_owned(),
        help: "delete it to delete its objects, or leave a comment in it; what was last read from \
               it stays in force"
            .to_owned(),
    }
}
