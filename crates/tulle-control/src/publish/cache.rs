//! The cache of answers: for each name one variant per kind of client that it differs for.
//!
//! A variant knows what it depends on, so it is exact and not a guess: another client gets it only
//! if everything that was read of the first client is the same for the second, and a change
//! touches it only if a question that led to it has another answer. It is forgotten when it is
//! touched, or when the last stream that looks at it goes ([`super::watch`]).
//!
//! A change that would break a reference (a route to a subset that is not there yet, a cluster
//! taken away while routes still name it) is held back for [`HOLD_LIMIT`], with what was last good
//! in its place: people save one file after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use tulle_config::client::{self, Client, Read};
use tulle_config::world::{Changes, Query};
use tulle_xds::session::message::{Name, ResourceType, WILDCARD};

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

/// One variant; never used twice.
pub(super) type VariantId = u64;

/// What was forgotten.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// These variants of these names.
    Variants(BTreeMap<VariantId, Key>),
    /// Perhaps anything.
    Everything,
}

/// The answers remembered.
#[derive(Debug, Default)]
pub(super) struct Cache {
    variants: HashMap<VariantId, Variant>,
    /// The variants of a name, by what they read of a client.
    names: BTreeMap<Key, Vec<Shape>>,
    /// Which answers a question leads to.
    asked: BTreeMap<Query, BTreeSet<VariantId>>,
    /// Variants in force for a time, by its end.
    held: BTreeSet<(Instant, VariantId)>,
    /// What was in force before the last change, as long as it may be needed.
    last_good: BTreeMap<Key, Vec<LastGood>>,
    newest: VariantId,
    /// Answers were forgotten that a stream may still depend on.
    forgetful: bool,
}

#[derive(Debug)]
struct Variant {
    key: Key,
    answer: Answer,
    /// It is the last good one, in force until then.
    held_until: Option<Instant>,
}

/// Variants that read the same things of a client, by what it answered.
#[derive(Debug)]
struct Shape {
    reads: Vec<Read>,
    variants: HashMap<Vec<client::Answer>, VariantId>,
}

#[derive(Clone, Debug)]
struct LastGood {
    answer: Answer,
    until: Instant,
}

impl Cache {
    /// The answer for `client`, computed if nobody like it has asked before. `known` is what it was
    /// given last, if it was not told of a change since.
    pub(super) fn answer(
        &mut self,
        (key, known): (&Key, Option<VariantId>),
        client: &Client,
        compute: Compute<'_>,
        now: Instant,
    ) -> (VariantId, &Answer) {
        let known = known.filter(|known| self.variants.contains_key(known));
        let id = known
            .or_else(|| self.find(key, client))
            .unwrap_or_else(|| self.add(key, client, compute, now));
        (id, &self.variants[&id].answer)
    }

    /// Computes the answer for `client` and remembers it.
    fn add(&mut self, key: &Key, client: &Client, compute: Compute<'_>, now: Instant) -> VariantId {
        let fresh = compute(key);
        let last = self.last_good(key, client, now);
        let (answer, held_until) = match last {
            Some(last) => self.choose(key, client, (fresh, last), compute),
            None => (fresh, None),
        };
        self.insert(Variant { key: key.clone(), answer, held_until })
    }

    fn find(&self, key: &Key, client: &Client) -> Option<VariantId> {
        let shapes = self.names.get(key)?;
        shapes.iter().find_map(|shape| {
            let answers = client.read(&shape.reads);
            shape.variants.get(&answers).copied()
        })
    }

    /// The fresh answer, or the last good one if the fresh one would break a reference; and until
    /// when that is in force.
    fn choose(
        &self,
        key: &Key,
        client: &Client,
        (fresh, last): (Answer, LastGood),
        compute: Compute<'_>,
    ) -> (Answer, Option<Instant>) {
        let until = Some(last.until);
        if key.is_wildcard() {
            return match key.rtype == ResourceType::Cluster && last.answer.names_more_than(&fresh) {
                true => (fresh.with_names_of(&last.answer), until),
                false => (fresh, None),
            };
        }
        if fresh.served().is_none() {
            return match key.rtype == ResourceType::Listener || last.answer.served().is_none() {
                true => (fresh, None),
                false => (last.answer.depending_on(&fresh), until),
            };
        }
        let new: Vec<Key> = fresh.references_beyond(&last.answer).cloned().collect();
        for reference in new {
            // Its own hold, if it has one, does not matter: there was none of it before.
            let found = compute(&reference);
            if found.served().is_none() && last.answer.served().is_some() {
                debug_assert!(found.is_for(client), "computed for this client");
                return (last.answer.depending_on(&fresh).depending_on(&found), until);
            }
        }
        (fresh, None)
    }

    /// What `client` had before the last change, if that is not too long ago. It stays for others
    /// that had the same.
    fn last_good(&self, key: &Key, client: &Client, now: Instant) -> Option<LastGood> {
        let mut kept = self.last_good.get(key)?.iter().rev();
        kept.find(|last| last.until > now && last.answer.is_for(client)).cloned()
    }

    fn insert(&mut self, variant: Variant) -> VariantId {
        if self.variants.len() >= MAX_ANSWERS {
            *self = Self { forgetful: true, newest: self.newest, ..Self::default() };
        }
        self.newest += 1;
        let id = self.newest;
        for query in variant.answer.queries() {
            self.asked.entry(query.clone()).or_default().insert(id);
        }
        self.held.extend(variant.held_until.map(|until| (until, id)));
        let (reads, answers) = variant.answer.reads();
        let shapes = self.names.entry(variant.key.clone()).or_default();
        match shapes.iter_mut().find(|shape| shape.reads == reads) {
            Some(shape) => drop(shape.variants.insert(answers, id)),
            None => shapes.push(Shape { reads, variants: HashMap::from([(answers, id)]) }),
        }
        self.variants.insert(id, variant);
        id
    }

    /// Forgets what a change touches; says what that was.
    pub(super) fn invalidate(
        &mut self,
        changes: &Changes,
        cause: Cause,
        now: Instant,
    ) -> Forgotten {
        if cause == Cause::Registry {
            // Endpoints are never held back.
            let stays = |last: &LastGood| !last.answer.queries().iter().any(|q| changes.touches(q));
            self.last_good.retain(|key, kept| {
                if key.rtype == ResourceType::Endpoints {
                    kept.retain(stays);
                }
                !kept.is_empty()
            });
        }
        let touched = self.asked.iter().filter(|(query, _)| changes.touches(query));
        let touched: BTreeSet<VariantId> = touched.flat_map(|(_, ids)| ids).copied().collect();
        let mut forgotten = BTreeMap::new();
        for id in touched {
            let Some(Variant { key, answer, held_until }) = self.forget(id) else { continue };
            if key.rtype != ResourceType::Endpoints || cause != Cause::Registry {
                let until = held_until.unwrap_or(now + HOLD_LIMIT);
                self.keep_last_good(key.clone(), answer, until);
            }
            forgotten.insert(id, key);
        }
        self.forgotten(forgotten)
    }

    fn keep_last_good(&mut self, key: Key, answer: Answer, until: Instant) {
        self.last_good.entry(key).or_default().push(LastGood { answer, until });
    }

    /// Forgets last good answers whose time is over; says which variants that concerns.
    pub(super) fn release(&mut self, now: Instant) -> Forgotten {
        self.last_good.retain(|_, kept| {
            kept.retain(|last| last.until > now);
            !kept.is_empty()
        });
        let due: Vec<VariantId> =
            self.held.iter().take_while(|(until, _)| *until <= now).map(|(_, id)| *id).collect();
        let due = due.into_iter().filter_map(|id| Some((id, self.forget(id)?.key)));
        let due = due.collect();
        self.forgotten(due)
    }

    /// When [`Cache::release`] has something to do next.
    pub(super) fn next_release(&self) -> Option<Instant> {
        let held = self.held.first().map(|(until, _)| *until);
        let last_good = self.last_good.values().flatten().map(|last| last.until);
        last_good.chain(held).min()
    }

    /// Forgets what no stream looks at any more. What was held back stays so for whoever comes
    /// back in time.
    pub(super) fn let_go(&mut self, ids: impl IntoIterator<Item = VariantId>) {
        for id in ids {
            if let Some(Variant { key, answer, held_until: Some(until) }) = self.forget(id) {
                self.keep_last_good(key, answer, until);
            }
        }
    }

    /// How many answers are remembered.
    pub(super) fn len(&self) -> usize {
        self.variants.len()
    }

    fn forgotten(&mut self, variants: BTreeMap<VariantId, Key>) -> Forgotten {
        if !self.forgetful {
            return Forgotten::Variants(variants);
        }
        // Nobody is known to look at what is left.
        *self = Self { newest: self.newest, ..Self::default() };
        Forgotten::Everything
    }

    /// Forgets a variant, with the questions that led to it.
    fn forget(&mut self, id: VariantId) -> Option<Variant> {
        let variant = self.variants.remove(&id)?;
        for query in variant.answer.queries() {
            if let Some(ids) = self.asked.get_mut(query) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.asked.remove(query);
                }
            }
        }
        if let Some(until) = variant.held_until {
            self.held.remove(&(until, id));
        }
        if let Some(shapes) = self.names.get_mut(&variant.key) {
            let (reads, answers) = variant.answer.reads();
            shapes.retain_mut(|shape| {
                if shape.reads == reads && shape.variants.get(&answers) == Some(&id) {
                    shape.variants.remove(&answers);
                }
                !shape.variants.is_empty()
            });
            if shapes.is_empty() {
                self.names.remove(&variant.key);
            }
        }
        Some(variant)
    }
}
