//! What is known of resources beside themselves: where they came from, when, in which version,
//! and which were refused.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tulle_model::lookup::{Absence, Needed};
use tulle_model::snapshot::Change;

/// Refusals that are kept to be looked at.
pub const MAX_REFUSALS: usize = 1_000;

/// A version of a resource that this proxy does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The version by the server's word.
    pub version: Arc<str>,
    /// What is wrong, field paths first.
    pub why: Arc<str>,
    /// When it came.
    pub at: SystemTime,
}

/// Beside every resource.
#[derive(Debug, Default)]
pub struct Ledger {
    fixed: HashSet<Needed>,
    updated: HashMap<Needed, SystemTime>,
    versions: HashMap<Needed, Arc<str>>,
    refused: BTreeMap<Needed, Refusal>,
}

impl Ledger {
    /// Takes note of names that stand in the bootstrap.
    pub fn fix(&mut self, names: impl IntoIterator<Item = Needed>) {
        self.fixed.extend(names);
    }

    /// Takes note of changes that are made now.
    pub fn note(&mut self, changes: &[Change]) {
        let now = SystemTime::now();
        for change in changes {
            match change {
                Change::Put(resource, _) => {
                    self.updated.insert(Needed::of(resource.kind(), resource.name()), now);
                }
                // The refusal is what is to be looked at.
                Change::Absent(_, Absence::Rejected(_)) => {}
                Change::Forget(needed) | Change::Absent(needed, _) => {
                    self.updated.remove(needed);
                    self.versions.remove(needed);
                    self.refused.remove(needed);
                }
                Change::Alias(..) => {}
            }
        }
    }

    /// Takes note of versions that a server gave.
    pub fn note_versions(&mut self, versions: impl IntoIterator<Item = (Needed, Arc<str>)>) {
        self.versions.extend(versions);
    }

    /// Takes note that the newest version of a resource, with this number, is refused for this
    /// reason; or, with `None`, that it is taken.
    pub fn note_refusal(&mut self, needed: Needed, refused: Option<(Arc<str>, Arc<str>)>) {
        let Some((version, why)) = refused else {
            self.refused.remove(&needed);
            return;
        };
        if self.refused.len() < MAX_REFUSALS || self.refused.contains_key(&needed) {
            self.refused.insert(needed, Refusal { version, why, at: SystemTime::now() });
        }
    }

    /// Whether a resource stands in the bootstrap.
    #[must_use]
    pub fn is_fixed(&self, resource: &Needed) -> bool {
        self.fixed.contains(resource)
    }

    /// When a resource was last changed.
    #[must_use]
    pub fn updated(&self, resource: &Needed) -> Option<SystemTime> {
        self.updated.get(resource).copied()
    }

    /// The version that a server gave a resource; empty if it gave none.
    #[must_use]
    pub fn version(&self, resource: &Needed) -> Arc<str> {
        self.versions.get(resource).cloned().unwrap_or_default()
    }

    /// Resources whose newest version is refused.
    pub fn refused(&self) -> impl Iterator<Item = (&Needed, &Refusal)> {
        self.refused.iter()
    }
}
