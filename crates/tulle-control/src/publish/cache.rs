//! The cache of answers: for each name one variant per kind of client that it differs for.
//!
//! A variant knows what it depends on, so it is exact and not a guess: another client gets it only
//! if everything that was read of the first client is the same for the second.
//!
//! A change that would break a reference (a route to a subset that is not there yet, a cluster
//! taken away while routes still name it) is held back for [`HOLD_LIMIT`], with what was last good
//! in its place: people save one file after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tulle_config::client::Client;
use tulle_config::world::{Changes, Query};
use tulle_xds::session::message::{Name, ResourceType, WILDCARD};

use super::Dirty;
use super::answer::Answer;

/// Most answers remembered; then all are forgotten, since any of them can be computed again.
pub const MAX_ANSWERS: usize = 200_000;
/// Longest time that a change is held back.
pub const HOLD_LIMIT: Duration = Duration::from_secs(2);

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// Who changed the world, as far as holding back depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// People wrote something, perhaps not all of it yet.
    Configuration,
    /// Workloads came or went: endpoints are never held back.
    Registry,
}

/// Computes the answer to a key anew.
pub(super) type Compute<'a> = &'a dyn Fn(&Key) -> Answer;

/// The answers remembered.
#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: BTreeMap<Key, Vec<Variant>>,
    /// Which answers a question leads to.
    asked: BTreeMap<Query, BTreeSet<Key>>,
    /// What was in force before the last change, as long as it may be needed.
    last_good: BTreeMap<Key, Vec<LastGood>>,
    count: usize,
    /// Answers were forgotten that a stream may still depend on.
    forgetful: bool,
}

#[derive(Debug)]
struct Variant {
    answer: Answer,
    /// It is the last good one, in force until then.
    held_until: Option<Instant>,
}

#[derive(Debug)]
struct LastGood {
    answer: Answer,
    until: Instant,
}

impl Cache {
    /// The answer for `client`, computed if nobody like it has asked before.
    pub(super) fn answer(
        &mut self,
        key: &Key,
        client: &Client,
        compute: Compute<'_>,
        now: Instant,
    ) -> &Answer {
        let index = self.find(key, client, compute, now);
        &self.answers[key][index].answer
    }

    /// The place of the answer for `client` among the variants of `key`.
    fn find(&mut self, key: &Key, client: &Client, compute: Compute<'_>, now: Instant) -> usize {
        let variants = self.answers.get(key).map_or(&[][..], Vec::as_slice);
        if let Some(index) = variants.iter().position(|variant| variant.answer.is_for(client)) {
            return index;
        }
        let fresh = compute(key);
        let last = self.take_last_good(key, client).filter(|last| last.until > now);
        let variant = match last {
            Some(last) => self.choose(key, client, (fresh, last), compute),
            None => Variant { answer: fresh, held_until: None },
        };
        self.insert(key, variant)
    }

    /// The fresh answer, or the last good one if the fresh one would break a reference.
    fn choose(
        &mut self,
        key: &Key,
        client: &Client,
        (fresh, last): (Answer, LastGood),
        compute: Compute<'_>,
    ) -> Variant {
        let held = |answer| Variant { answer, held_until: Some(last.until) };
        if key.is_wildcard() {
            return match key.rtype == ResourceType::Cluster && last.answer.names_more_than(&fresh) {
                true => held(fresh.with_names_of(&last.answer)),
                false => Variant { answer: fresh, held_until: None },
            };
        }
        if fresh.served().is_none() {
            return match key.rtype == ResourceType::Listener || last.answer.served().is_none() {
                true => Variant { answer: fresh, held_until: None },
                false => held(last.answer.depending_on(&fresh)),
            };
        }
        let new: Vec<Key> = fresh.references_beyond(&last.answer).cloned().collect();
        for reference in new {
            // Its own hold, if it has one, does not matter: there was none of it before.
            let found = compute(&reference);
            if found.served().is_none() && last.answer.served().is_some() {
                debug_assert!(found.is_for(client), "computed for this client");
                return held(last.answer.depending_on(&fresh).depending_on(&found));
            }
        }
        Variant { answer: fresh, held_until: None }
    }

    fn take_last_good(&mut self, key: &Key, client: &Client) -> Option<LastGood> {
        let kept = self.last_good.get_mut(key)?;
        let index = kept.iter().position(|last| last.answer.is_for(client))?;
        let last = kept.swap_remove(index);
        if kept.is_empty() {
            self.last_good.remove(key);
        }
        Some(last)
    }

    /// Remembers an answer; returns its place among the variants.
    fn insert(&mut self, key: &Key, variant: Variant) -> usize {
        if self.count >= MAX_ANSWERS {
            *self = Self { forgetful: true, ..Self::default() };
        }
        for query in variant.answer.queries() {
            self.asked.entry(query.clone()).or_default().insert(key.clone());
        }
        self.count += 1;
        let variants = self.answers.entry(key.clone()).or_default();
        variants.push(variant);
        variants.len() - 1
    }

    /// Forgets what a change touches; says what that was.
    pub(super) fn invalidate(&mut self, changes: &Changes, cause: Cause, now: Instant) -> Dirty {
        let touched: Vec<Query> =
            self.asked.keys().filter(|query| changes.touches(query)).cloned().collect();
        let mut dirty = BTreeSet::new();
        for query in touched {
            dirty.extend(self.asked.remove(&query).unwrap_or_default());
        }
        for key in &dirty {
            let variants = self.forget(key);
            self.keep_last_good(key, variants, cause, now);
        }
        self.dirty(dirty)
    }

    fn keep_last_good(&mut self, key: &Key, variants: Vec<Variant>, cause: Cause, now: Instant) {
        if key.rtype == ResourceType::Endpoints && cause == Cause::Registry {
            self.last_good.remove(key);
            return;
        }
        let last = variants.into_iter().map(|Variant { answer, held_until }| LastGood {
            answer,
            until: held_until.unwrap_or(now + HOLD_LIMIT),
        });
        self.last_good.entry(key.clone()).or_default().extend(last);
    }

    /// Forgets last good answers whose time is over; says which names that concerns.
    pub(super) fn release(&mut self, now: Instant) -> Dirty {
        self.last_good.retain(|_, kept| {
            kept.retain(|last| last.until > now);
            !kept.is_empty()
        });
        let over = |variant: &Variant| variant.held_until.is_some_and(|until| until <= now);
        let due = self.answers.iter().filter(|(_, variants)| variants.iter().any(over));
        let due: BTreeSet<Key> = due.map(|(key, _)| key.clone()).collect();
        for key in &due {
            self.forget(key);
        }
        self.dirty(due)
    }

    /// When [`Cache::release`] has something to do next.
    pub(super) fn next_release(&self) -> Option<Instant> {
        let held = self.answers.values().flatten().filter_map(|variant| variant.held_until);
        held.chain(self.last_good.values().flatten().map(|last| last.until)).min()
    }

    fn dirty(&mut self, mut keys: BTreeSet<Key>) -> Dirty {
        if std::mem::take(&mut self.forgetful) {
            return Dirty::Everything;
        }
        // For Envoy the version of endpoints contains that of their cluster.
        let clusters = keys.iter().filter(|key| key.rtype == ResourceType::Cluster);
        let endpoints = |key: &Key| Key { rtype: ResourceType::Endpoints, name: key.name.clone() };
        let endpoints: Vec<Key> = clusters.map(endpoints).collect();
        keys.extend(endpoints);
        Dirty::Keys(keys)
    }

    /// Forgets every variant of a name, with the questions that led to it.
    fn forget(&mut self, key: &Key) -> Vec<Variant> {
        let variants = self.answers.remove(key).unwrap_or_default();
        self.count -= variants.len();
        for query in variants.iter().flat_map(|variant| variant.answer.queries()) {
            if let Some(keys) = self.asked.get_mut(query) {
                keys.remove(key);
                if keys.is_empty() {
                    self.asked.remove(query);
                }
            }
        }
        variants
    }
}
