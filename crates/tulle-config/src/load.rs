//! Loading: a set of files becomes a set of accepted objects and the findings about the rest.
//!
//! The one entry that the control plane's ingest and `tulle analyze` share. It never fails: what
//! cannot be read is a finding, and [`Loaded`] says what the caller's store needs to keep the last
//! good version of everything that was refused.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diagnostic::{self, Code, Diagnostic};
use crate::object::{Object, ObjectId};
use crate::reader::Schema;
use crate::tree::{Node, Position, Variable};

mod canonical;
mod envelope;
mod reading;

pub use canonical::canonical;
use reading::Reading;

/// What a variable stands for.
pub type Lookup<'l> = &'l dyn Fn(&str) -> Variable;

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
    /// Where these objects were read.
    pub fn of(objects: &BTreeMap<ObjectId, LoadedObject>) -> Self {
        let sources = objects.iter().map(|(id, loaded)| (id.clone(), loaded.source.clone()));
        SourceMap { sources: sources.collect() }
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
        SourceMap::of(&self.objects)
    }

    /// Whether anything was refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Takes in what one file says. Of several equal objects the first wins; a refused one before
    /// it keeps its place.
    fn add(&mut self, reading: &Reading) {
        self.diagnostics.extend(reading.diagnostics.iter().cloned());
        if reading.unreadable {
            self.unreadable.insert(reading.path.to_string());
        }
        for (id, found) in &reading.objects {
            match (found, self.objects.entry(id.clone())) {
                (Some(found), Entry::Occupied(first)) => {
                    let first = &first.get().source;
                    self.diagnostics.push(duplicate(id, first, &found.source));
                }
                (Some(found), Entry::Vacant(place)) => {
                    self.refused.remove(id);
                    place.insert(found.clone());
                }
                (None, Entry::Occupied(_)) => {}
                (None, Entry::Vacant(_)) => {
                    self.refused.insert(id.clone());
                }
            }
        }
    }
}

fn duplicate(id: &ObjectId, first: &Source, second: &Source) -> Diagnostic {
    let (other, Position { line, .. }) = (&first.file, first.root.at);
    Diagnostic {
        code: Code::DuplicateObject,
        severity: Code::DuplicateObject.severity(),
        file: second.file.to_string(),
        at: second.root.at,
        object: Some(id.clone()),
        path: String::new(),
        message: format!("{id} is already defined at {other}:{line}, which wins"),
        help: "remove or rename one of them".into(),
    }
}

/// Loads files, replacing variables as `lookup` allows.
///
/// Files are taken in the order of their paths, whatever the order given.
pub fn load(files: &[File<'_>], lookup: Lookup<'_>) -> Loaded {
    load_with(files, Some(lookup))
}

/// Loads what a store kept: canonical text, in which variables are replaced already.
pub fn load_stored(files: &[File<'_>]) -> Loaded {
    load_with(files, None)
}

fn load_with(files: &[File<'_>], lookup: Option<Lookup<'_>>) -> Loaded {
    let mut loaded = Loaded::default();
    let mut files: Vec<&File<'_>> = files.iter().collect();
    files.sort_by_key(|file| file.path);
    for file in files {
        let reading = Reading::of(&file.path.into(), file.text, lookup);
        loaded.add(&reading);
        for (message, fields) in reading.schema {
            loaded.schema.entry(message).or_default().extend(fields);
        }
    }
    diagnostic::sort(&mut loaded.diagnostics);
    loaded
}

/// Loads the same files again and again, reading only those whose text is another than before:
/// what it returns equals that of [`load`], but for the schema, which is left out. An object that
/// was not read anew is the same allocation as before.
#[derive(Debug, Default)]
pub struct Loader {
    readings: BTreeMap<Arc<str>, (Arc<str>, Reading)>,
}

impl Loader {
    /// Loads files by path, replacing variables as `lookup` allows, which has to allow the same
    /// every time.
    pub fn load(&mut self, files: &BTreeMap<Arc<str>, Arc<str>>, lookup: Lookup<'_>) -> Loaded {
        self.readings.retain(|path, (read, _)| files.get(path).is_some_and(|text| text == read));
        let mut loaded = Loaded::default();
        for (path, text) in files {
            let (_, reading) = self.readings.entry(Arc::clone(path)).or_insert_with(|| {
                let reading = Reading::of(path, text, Some(lookup));
                (Arc::clone(text), Reading { schema: Schema::default(), ..reading })
            });
            loaded.add(reading);
        }
        diagnostic::sort(&mut loaded.diagnostics);
        loaded
    }
}

#[cfg(test)]
mod tests;
