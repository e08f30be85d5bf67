//! Objects: what the files say, with the last good version of whatever they say badly.
//!
//! A bad object harms only itself, and not even that: the version accepted last stays in force
//! until a better one comes or the object is really gone. The store keeps those versions, so that
//! a restart in front of a bad file changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tulle_config::{
    Code, Diagnostic, File, Loaded, LoadedObject, Object, ObjectId, Position, SourceMap, Variable,
};

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

/// The objects in force, kept in step with the files.
#[derive(Debug)]
pub struct Objects {
    in_force: BTreeMap<ObjectId, LoadedObject>,
    /// What the store has, by key.
    stored: BTreeMap<String, String>,
    variables: Variables,
}

impl Objects {
    /// The objects that `store` kept.
    #[must_use]
    pub fn restore(store: &dyn Store, variables: Variables) -> Self {
        let mut objects = Self { in_force: BTreeMap::new(), stored: BTreeMap::new(), variables };
        let kept = store.load(Table::Objects).unwrap_or_else(|error| {
            tracing::error!(%error, "last good objects cannot be read; files must be right");
            Vec::new()
        });
        for (key, value) in kept {
            let Ok(text) = String::from_utf8(value) else { continue };
            objects.in_force.extend(read_stored(&key, &text));
            objects.stored.insert(key, text);
        }
        objects
    }

    /// Reads `files` and keeps what changed in `writer`.
    pub fn update(&mut self, files: &FileSet, writer: &Writer) -> Configuration {
        let (texts, broken) = divide(files);
        let mut loaded = tulle_config::load(&texts, &|name| self.variable(name));
        for finding in &broken {
            loaded.unreadable.insert(finding.file.clone());
        }
        loaded.diagnostics.extend(broken);
        tulle_config::diagnostic::sort(&mut loaded.diagnostics);
        let configuration = self.accept(loaded);
        self.keep(writer);
        configuration
    }

    fn variable(&self, name: &str) -> Variable {
        match self.variables.value(name) {
            Some(value) => Variable::Set(value.to_owned()),
            None if self.variables.allows(name) => Variable::Unset,
            None => Variable::Forbidden,
        }
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
        let mut sources = SourceMap::new();
        for (id, object) in &in_force {
            sources.insert(id.clone(), object.source.clone());
        }
        let objects = in_force.iter().map(|(id, loaded)| (id.clone(), Arc::clone(&loaded.object)));
        let objects = objects.collect();
        self.in_force = in_force;
        Configuration { objects, sources, outdated, findings: loaded.diagnostics }
    }

    /// Brings the store up to what is in force.
    fn keep(&mut self, writer: &Writer) {
        let now: BTreeMap<String, String> =
            self.in_force.iter().map(|(id, object)| (key(id), write_stored(object))).collect();
        for (key, text) in &now {
            if self.stored.get(key) != Some(text) {
                writer.put(Table::Objects, key.clone(), Some(text.clone().into_bytes()));
            }
        }
        for key in self.stored.keys().filter(|key| !now.contains_key(*key)) {
            writer.put(Table::Objects, key.clone(), None);
        }
        self.stored = now;
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
fn divide(files: &FileSet) -> (Vec<File<'_>>, Vec<Diagnostic>) {
    let (mut texts, mut broken) = (Vec::new(), Vec::new());
    for (path, content) in files {
        match content {
            Content::Text(text) => texts.push(File { path, text }),
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
