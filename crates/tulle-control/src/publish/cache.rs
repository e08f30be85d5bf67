//! The cache of answers: for each name one variant per kind of client that it differs for.
//!
//! A variant knows what it depends on, so it is exact and not a guess: another client gets it only
//! if everything that was read of the first client is the same for the second.

use std::collections::{BTreeMap, BTreeSet};

use tulle_config::client::Client;
use tulle_config::world::{Changes, Query};
use tulle_xds::session::message::{Name, ResourceType, WILDCARD};

use super::Dirty;
use super::answer::Answer;

/// Most answers remembered; then all are forgotten, since any of them can be computed again.
pub const MAX_ANSWERS: usize = 200_000;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Type of the resource.
    pub rtype: ResourceType,
    /// Its name or alias, or [`WILDCARD`].
    pub name: Name,
}

impl Key {
    /// All resources of a type that a client is to have unasked.
    #[must_use]
    pub fn wildcard(rtype: ResourceType) -> Self {
        Self { rtype, name: WILDCARD.into() }
    }

    /// Whether it is all resources of a type.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        &*self.name == WILDCARD
    }
}

/// The answers remembered.
#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: BTreeMap<Key, Vec<Answer>>,
    /// Which answers a question leads to.
    asked: BTreeMap<Query, BTreeSet<Key>>,
    count: usize,
    /// Answers were forgotten that a stream may still depend on.
    forgetful: bool,
}

impl Cache {
    /// The answer for `client`, computed if nobody like it has asked before.
    pub(super) fn answer(
        &mut self,
        key: &Key,
        client: &Client,
        compute: impl FnOnce() -> Answer,
    ) -> &Answer {
        let variants = self.answers.get(key).map_or(&[][..], Vec::as_slice);
        let index = match variants.iter().position(|answer| answer.is_for(client)) {
            Some(index) => index,
            None => self.insert(key, compute()),
        };
        &self.answers[key][index]
    }

    /// Remembers an answer; returns its place among the variants.
    fn insert(&mut self, key: &Key, answer: Answer) -> usize {
        if self.count >= MAX_ANSWERS {
            *self = Self { forgetful: true, ..Self::default() };
        }
        for query in &answer.queries {
            self.asked.entry(query.clone()).or_default().insert(key.clone());
        }
        self.count += 1;
        let variants = self.answers.entry(key.clone()).or_default();
        variants.push(answer);
        variants.len() - 1
    }

    /// Forgets what a change touches; says what that was.
    pub(super) fn invalidate(&mut self, changes: &Changes) -> Dirty {
        let touched: Vec<Query> =
            self.asked.keys().filter(|query| changes.touches(query)).cloned().collect();
        let mut dirty = BTreeSet::new();
        for query in touched {
            dirty.extend(self.asked.remove(&query).unwrap_or_default());
        }
        for key in &dirty {
            self.forget(key);
        }
        if std::mem::take(&mut self.forgetful) {
            return Dirty::Everything;
        }
        // For Envoy the version of endpoints contains that of their cluster.
        let clusters = dirty.iter().filter(|key| key.rtype == ResourceType::Cluster);
        let endpoints = |key: &Key| Key { rtype: ResourceType::Endpoints, name: key.name.clone() };
        let endpoints: Vec<Key> = clusters.map(endpoints).collect();
        dirty.extend(endpoints);
        Dirty::Keys(dirty)
    }

    /// Forgets every variant of a name, with the questions that led to it.
    fn forget(&mut self, key: &Key) {
        let variants = self.answers.remove(key).unwrap_or_default();
        self.count -= variants.len();
        for query in variants.iter().flat_map(|answer| &answer.queries) {
            if let Some(keys) = self.asked.get_mut(query) {
                keys.remove(key);
                if keys.is_empty() {
                    self.asked.remove(query);
                }
            }
        }
    }
}
