//! Loading: a set of files becomes a set of accepted objects and the findings about the rest.
//!
//! The one entry that the control plane's ingest and `tulle analyze` share. It never fails: what
//! cannot be read is a finding, and [`Loaded`] says what the caller's store needs to keep the last
//! good version of everything that was refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diagnostic::{self, Code, Diagnostic};
use crate::object::{Object, ObjectId};
use crate::reader::{Report, Schema};
use crate::tree::{self, Document, Fault, Node, Position, Value, Variable};

mod canonical;
mod envelope;

pub use canonical::canonical;

/// One file: the path it is reported under and its text.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Path, as findings name it.
    pub path: &'a str,
    /// Content.
    pub text: &'a str,
}

/// What a set of files says.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The accepted objects.
    pub objects: BTreeMap<ObjectId, LoadedObject>,
    /// Objects that were recognised and refused: their last accepted version stays in force.
    pub refused: BTreeSet<ObjectId>,
    /// Files with a part in which no object could be recognised: what was last read from them and
    /// is not in `objects` stays in force.
    pub unreadable: BTreeSet<String>,
    /// Everything found, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// The fields of each message that were asked for, and whether they are enforced.
    pub schema: Schema,
}

/// An accepted object and where it was read.
#[derive(Debug, Clone)]
pub struct LoadedObject {
    /// The object.
    pub object: Arc<Object>,
    /// Its file and tree.
    pub source: Source,
}

/// Where an object was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub file: Arc<str>,
    /// Its tree, variables replaced.
    pub root: Arc<Node>,
}

impl LoadedObject {
    /// The object as JSON, equal for equal content, readable by [`load`]: what a store keeps.
    pub fn canonical(&self) -> String {
        canonical(&self.source.root)
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// Line and column.
    pub at: Position,
}

/// Finds the place of a field of an object again, by its path.
///
/// Kept beside the world and not in it: a moved line changes no resource.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    sources: BTreeMap<ObjectId, Source>,
}

impl SourceMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers where an object was read.
    pub fn insert(&mut self, id: ObjectId, source: Source) {
        self.sources.insert(id, source);
    }

    /// Where the deepest existing part of `path` stands.
    pub fn place(&self, id: &ObjectId, path: &str) -> Option<Place> {
        let source = self.sources.get(id)?;
        let at = crate::path::locate(&source.root, path);
        Some(Place { file: source.file.clone(), at })
    }
}

impl Loaded {
    /// Where every accepted object stands.
    pub fn source_map(&self) -> SourceMap {
        let sources = self.objects.iter();
        let sources = sources.map(|(id, loaded)| (id.clone(), loaded.source.clone())).collect();
        SourceMap { sources }
    }

    /// Whether anything was refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    fn take(&mut self, file: &Arc<str>, root: Node, faults: Vec<Fault>) {
        let mut report = Report::new(file);
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
        match (id, object) {
            (Some(id), Some(object)) if !refused => self.accept(id, object, file, root),
            (Some(id), _) => {
                if !self.objects.contains_key(&id) {
                    self.refused.insert(id);
                }
            }
            (None, _) => {
                self.unreadable.insert(file.to_string());
            }
        }
    }

    /// The first of several equal objects wins; a refused one before it keeps its place.
    fn accept(&mut self, id: ObjectId, object: Object, file: &Arc<str>, root: Node) {
        if let Some(first) = self.objects.get(&id) {
            let Source { file: other, root: other_root } = &first.source;
            let Position { line, .. } = other_root.at;
            self.diagnostics.push(Diagnostic {
                code: Code::DuplicateObject,
                severity: Code::DuplicateObject.severity(),
                file: file.to_string(),
                at: root.at,
                object: Some(id.clone()),
                path: String::new(),
                message: format!("{id} is already defined at {other}:{line}, which wins"),
                help: "remove or rename one of them".into(),
            });
            return;
        }
        let source = Source { file: file.clone(), root: Arc::new(root) };
        self.refused.remove(&id);
        self.objects.insert(id, LoadedObject { object: Arc::new(object), source });
    }
}

/// Loads files, replacing variables as `lookup` allows.
///
/// Files are taken in the order of their paths, whatever the order given.
pub fn load(files: &[File<'_>], lookup: &dyn Fn(&str) -> Variable) -> Loaded {
    load_with(files, Some(lookup))
}

/// Loads what a store kept: canonical text, in which variables are replaced already.
pub fn load_stored(files: &[File<'_>]) -> Loaded {
    load_with(files, None)
}

fn load_with(files: &[File<'_>], lookup: Option<&dyn Fn(&str) -> Variable>) -> Loaded {
    let mut loaded = Loaded::default();
    let mut files: Vec<&File<'_>> = files.iter().collect();
    files.sort_by_key(|file| file.path);
    for file in files {
        let path: Arc<str> = file.path.into();
        for document in tree::parse(file.path, file.text) {
            match document {
                Ok(document) => load_document(&mut loaded, &path, document, lookup),
                Err(fault) => {
                    loaded.unreadable.insert(file.path.to_owned());
                    loaded.diagnostics.push(from_fault(file.path, fault));
                }
            }
        }
    }
    diagnostic::sort(&mut loaded.diagnostics);
    loaded
}

fn load_document(
    loaded: &mut Loaded,
    file: &Arc<str>,
    mut document: Document,
    lookup: Option<&dyn Fn(&str) -> Variable>,
) {
    match lookup {
        Some(lookup) => tree::substitute(&mut document, lookup),
        None => tree::loosen(&mut document.root),
    }
    let Document { root, faults } = document;
    let (root, items) = match envelope::list_items(root) {
        Ok(items) => (None, items),
        Err(root) => (Some(root), Vec::new()),
    };
    if let Some(root) = root {
        if root.value != Value::Null {
            loaded.take(file, root, faults);
        }
        return;
    }
    // A fault belongs to the last item that begins before it.
    let mut faults_of: Vec<Vec<Fault>> = items.iter().map(|_| Vec::new()).collect();
    for fault in faults {
        let index = items.iter().rposition(|item| item.at <= fault.at).unwrap_or(0);
        match faults_of.get_mut(index) {
            Some(slot) => slot.push(fault),
            None => loaded.diagnostics.push(from_fault(file, fault)),
        }
    }
    for (item, faults) in items.into_iter().zip(faults_of) {
        loaded.take(file, item, faults);
    }
}

fn from_fault(file: &str, fault: Fault) -> Diagnostic {
    let Fault { code, at, path, message, help } = fault;
    Diagnostic {
        code,
        severity: code.severity(),
        file: file.to_owned(),
        at,
        object: None,
        path,
        message,
        help,
    }
}

#[cfg(test)]
mod tests;
