//! Analysis: what is wrong between objects that are each fine alone.
//!
//! Runs beside the configuration story on the same world that [`crate::translate`] reads. The
//! control plane runs it after each change, `tulle analyze` without one. What it finds refuses no
//! object: the rest of the mesh keeps working, and what is missing may come.

use std::sync::Arc;

use crate::diagnostic::{self, Code, Diagnostic};
use crate::load::{File, SourceMap, load};
use crate::object::ObjectId;
use crate::tree::{Position, Variable};
use crate::world::{MeshSettings, World};

mod destination;
mod gateway;
mod overlap;
mod policy;
mod service;

/// Most names listed where none is close to what was written.
const MAX_SUGGESTED: usize = 8;

/// One thing between objects that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub code: Code,
    /// The object to change.
    pub object: ObjectId,
    /// The field of it.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Finding {
    fn new(
        code: Code,
        object: &ObjectId,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Finding {
            code,
            object: object.clone(),
            path: path.into(),
            message: message.into(),
            help: help.into(),
        }
    }

    /// The finding with its place.
    pub fn diagnostic(self, sources: &SourceMap) -> Diagnostic {
        let place = sources.place(&self.object, &self.path);
        let (file, at) = match place {
            Some(place) => (place.file.to_string(), place.at),
            None => (String::new(), Position::START),
        };
        Diagnostic {
            code: self.code,
            severity: self.code.severity(),
            file,
            at,
            object: Some(self.object),
            path: self.path,
            message: self.message,
            help: self.help,
        }
    }
}

/// What is wrong between the objects of a world.
pub fn findings(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    destination::check(world, &mut findings);
    overlap::check(world, &mut findings);
    policy::check(world, &mut findings);
    gateway::check(world, &mut findings);
    service::check(world, &mut findings);
    findings
}

/// Everything there is to say about a set of files, in the order of files and lines.
pub fn analyze(
    files: &[File<'_>],
    settings: Arc<MeshSettings>,
    lookup: &dyn Fn(&str) -> Variable,
) -> Vec<Diagnostic> {
    let loaded = load(files, lookup);
    let sources = loaded.source_map();
    let objects = loaded.objects.into_values().map(|loaded| loaded.object);
    let world = World::new(settings, objects, []);
    let mut diagnostics = loaded.diagnostics;
    let found = findings(&world).into_iter();
    diagnostics.extend(found.map(|finding| finding.diagnostic(&sources)));
    diagnostic::sort(&mut diagnostics);
    diagnostics
}

/// Help made of the names that exist: the one that was probably meant, or some of them.
fn suggestion<'c>(word: &str, known: impl Iterator<Item = &'c str>) -> String {
    let mut names: Vec<&str> = known.collect();
    names.sort_unstable();
    names.dedup();
    if let Some(name) = crate::reader::nearest(word, names.iter().copied()) {
        return format!("did you mean {name}?");
    }
    names.truncate(MAX_SUGGESTED);
    match names.is_empty() {
        true => "there is none yet".to_owned(),
        false => format!("there is {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
