//! Objects: what the files say, with the last good version of whatever they say badly.
//!
//! A bad object harms only itself, and not even that: the version accepted last stays in force
//! until a better one comes or the object is really gone. The store keeps those versions, so that
//! a restart in front of a bad file changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_config::tree::Node;
use tulle_config::{
    Code, Diagnostic, File, Loaded, LoadedObject, Loader, Object, ObjectId, Position, SourceMap,
    Variable,
};
use xxhash_rust::xxh64::xxh64;

use super::files::{Content, FileSet};
use crate::settings::Variables;
use crate::store::{Store, Table, writer::Writer};

/// What is in force, and what is wrong with the files.
#[derive(Debug, Default)]
pub struct Configuration {
    /// The objects in force.
    pub objects: BTreeMap<ObjectId, Arc<Object>>,
    /// Where they stand.
    pub sources: SourceMap,
    /// Objects of which an older version is in force than the files say.
    pub outdated: BTreeSet<ObjectId>,
    /// What was found in the files.
    pub findings: Vec<Diagnostic>,
}

/// A value of the store.
#[derive(Debug)]
struct Stored {
    hash: u64,
    /// The tree that it was written from, if it was since the start.
    root: Option<Arc<Node>>,
}

/// The objects in force, kept in step with the files.
#[derive(Debug)]
pub struct Objects {
    loader: Loader,
    in_force: BTreeMap<ObjectId, LoadedObject>,
    /// What the store has of each object.
    stored: BTreeMap<ObjectId, Stored>,
    /// Keys of the store that are not understood any more.
    foreign: BTreeSet<String>,
    variables: Variables,
}

impl Objects {
    /// The objects that `store` kept.
    #[must_use]
    pub fn restore(store: &dyn Store, variables: Variables) -> Self {
        let mut objects = Self {
            loader: Loader::default(),
            in_force: BTreeMap::new(),
            stored: BTreeMap::new(),
            foreign: BTreeSet::new(),
            variables,
        };
        let kept = store.load(Table::Objects).unwrap_or_else(|error| {
            tracing::error!(%error, "last good objects cannot be read; files must be right");
            Vec::new()
        });
        for (key, value) in kept {
            let Ok(text) = String::from_utf8(value) else { continue };
            let Some((id, object)) = read_stored(&key, &text) else {
                objects.foreign.insert(key);
                continue;
            };
            let hash = xxh64(text.as_bytes(), 0);
            objects.stored.insert(id.clone(), Stored { hash, root: None });
            objects.in_force.insert(id, object);
        }
        objects
    }

    /// Reads `files` and keeps what changed in `writer`.
    pub fn update(&mut self, files: &FileSet, writer: &Writer) -> Configuration {
        let (texts, broken) = divide(files);
        let variables = &self.variables;
        let mut loaded = self.loader.load(&texts, &|name| variable(variables, name));
        for finding in &broken {
            loaded.unreadable.insert(finding.file.clone());
        }
        loaded.diagnostics.extend(broken);
        tulle_config::diagnostic::sort(&mut loaded.diagnostics);
        let configuration = self.accept(loaded);
        self.keep(writer);
        configuration
    }

    fn accept(&mut self, loaded: Loaded) -> Configuration {
        let mut in_force = loaded.objects;
        let mut outdated = BTreeSet::new();
        for (id, last) in std::mem::take(&mut self.in_force) {
            let bad =
                loaded.refused.contains(&id) || loaded.unreadable.contains(&*last.source.file);
            if bad && !in_force.contains_key(&id) {
                outdated.insert(id.clone());
                in_force.insert(id, last);
            }
        }
        let sources = SourceMap::of(&in_force);
        let objects = in_force.iter().map(|(id, loaded)| (id.clone(), Arc::clone(&loaded.object)));
        let objects = objects.collect();
        self.in_force = in_force;
        Configuration { objects, sources, outdated, findings: loaded.diagnostics }
    }

    /// Brings the store up to what is in force.
    fn keep(&mut self, writer: &Writer) {
        let Self { in_force, stored, .. } = self;
        let mut changed = Vec::new();
        // Both are in the order of ids: one walk finds what differs.
        let mut known = stored.iter().peekable();
        for (id, object) in &*in_force {
            while known.next_if(|(other, _)| *other < id).is_some() {}
            let known = known.next_if(|(other, _)| *other == id).map(|(_, known)| known);
            let written = known.and_then(|known| known.root.as_ref());
            if !written.is_some_and(|written| Arc::ptr_eq(written, &object.source.root)) {
                changed.push((id, object, known.map(|known| known.hash)));
            }
        }
        let mut fresh = Vec::new();
        for (id, object, known) in changed {
            let text = write_stored(object);
            let hash = xxh64(text.as_bytes(), 0);
            if known != Some(hash) {
                drop(writer.put(Table::Objects, key(id), Some(text.into_bytes())));
            }
            let root = Some(Arc::clone(&object.source.root));
            fresh.push((id.clone(), Stored { hash, root }));
        }
        stored.extend(fresh);
        if stored.len() == in_force.len() {
            return self.keep_no_foreign(writer);
        }
        stored.retain(|id, _| {
            let stays = in_force.contains_key(id);
            if !stays {
                drop(writer.put(Table::Objects, key(id), None));
            }
            stays
        });
        self.keep_no_foreign(writer);
    }

    fn keep_no_foreign(&mut self, writer: &Writer) {
        for key in std::mem::take(&mut self.foreign) {
            drop(writer.put(Table::Objects, key, None));
        }
    }
}

fn variable(variables: &Variables, name: &str) -> Variable {
    match variables.value(name) {
        Some(value) => Variable::Set(value.to_owned()),
        None if variables.allows(name) => Variable::Unset,
        None => Variable::Forbidden,
    }
}

fn key(id: &ObjectId) -> String {
    format!("{}/{}/{}", id.kind, id.namespace, id.name)
}

/// The file's path on the first line, the object in canonical JSON on the second.
fn write_stored(object: &LoadedObject) -> String {
    format!("{}\n{}", object.source.file, object.canonical())
}

fn read_stored(key: &str, text: &str) -> Option<(ObjectId, LoadedObject)> {
    let (file, json) = text.split_once('\n')?;
    let mut loaded = tulle_config::load::load_stored(&[File { path: "kept.json", text: json }]);
    let Some((id, mut object)) = loaded.objects.pop_first() else {
        let why = loaded.diagnostics.first().map(ToString::to_string);
        tracing::warn!(key, why, "a kept object is no longer understood and is left out");
        return None;
    };
    object.source.file = file.into();
    Some((id, object))
}

/// The files that have a text, and findings about those that have none.
fn divide(files: &FileSet) -> (BTreeMap<Arc<str>, Arc<str>>, Vec<Diagnostic>) {
    let (mut texts, mut broken) = (BTreeMap::new(), Vec::new());
    for (path, content) in files {
        match content {
            Content::Text(text) => {
                texts.insert(Arc::clone(path), Arc::clone(text));
            }
            Content::Unreadable(why) => broken.push(unreadable(path, why)),
        }
    }
    (texts, broken)
}

fn unreadable(path: &str, why: &str) -> Diagnostic {
    Diagnostic {
        code: Code::Syntax,
        severity: Code::Syntax.severity(),
        file: path.to_owned(),
        at: Position::START,
        object: None,
        path: String::new(),
        message: why.to_owned(),
        help: "what was last read from it stays in force".to_owned(),
    }
}

#[cfg(test)]
mod tests;
