//! Which names of one type a client wants, why, and what is known about each.
//!
//! A name is wanted because other resources refer to it (counted) or because traffic used it
//! (remembered with the time). Both client cores keep one [`Interest`] per type; what is said on
//! the wire about it is theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::client::{Answer, NEGATIVE_NAMES_LIMIT, UNANSWERED_LIMIT, USED_NAMES_LIMIT};
use super::message::{Name, WILDCARD};

/// The names of one type that are wanted.
#[derive(Debug, Default)]
pub(super) struct Interest {
    names: BTreeMap<Name, Want>,
    /// Names answered with [`Answer::Absent`].
    negatives: BTreeSet<Name>,
}

#[derive(Debug)]
struct Want {
    references: u32,
    /// Whether traffic ever used it.
    by_traffic: bool,
    /// Last use by traffic, or since when nobody refers to it.
    used_at: Instant,
    /// When it was asked for on the current stream.
    asked_at: Instant,
    answer: Answer,
}

impl Want {
    fn idle(&self) -> bool {
        self.references == 0
    }
}

impl Interest {
    /// Counts one more referrer. True when the name is new.
    pub(super) fn subscribe(&mut self, name: &Name, now: Instant) -> bool {
        let new = !self.names.contains_key(name);
        self.want(name, now).references += 1;
        new
    }

    /// Counts one referrer less, unused since the given time.
    pub(super) fn release(&mut self, name: &str, unused_since: Instant) {
        let Some(want) = self.names.get_mut(name) else {
            debug_assert!(false, "released a name nobody subscribed: {name}");
            return;
        };
        debug_assert!(want.references > 0, "released more often than subscribed: {name}");
        want.references = want.references.saturating_sub(1);
        want.used_at = unused_since;
    }

    /// Notes a use by traffic. True when the name is new.
    pub(super) fn use_name(&mut self, name: &Name, now: Instant) -> bool {
        let new = !self.names.contains_key(name);
        let want = self.want(name, now);
        want.by_traffic = true;
        want.used_at = want.used_at.max(now);
        new
    }

    /// Takes back a name that something will refer to again, or that nothing needs any more.
    pub(super) fn restore(&mut self, name: &Name, now: Instant) {
        self.want(name, now);
    }

    fn want(&mut self, name: &Name, now: Instant) -> &mut Want {
        self.names.entry(name.clone()).or_insert_with(|| Want {
            references: 0,
            by_traffic: false,
            used_at: now,
            asked_at: now,
            answer: Answer::Unknown,
        })
    }

    /// Whether a name is absent and kept only because something referred to it lately. Should
    /// something refer to it again, it has to be asked for anew: what existed together with its
    /// former referrer may be created again together with the next.
    pub(super) fn pointless(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|want| {
            want.idle() && !want.by_traffic && matches!(want.answer, Answer::Absent(_))
        })
    }

    /// Drops a name.
    pub(super) fn remove(&mut self, name: &str) -> Option<Answer> {
        self.negatives.remove(name);
        self.names.remove(name).map(|want| want.answer)
    }

    /// A stream opened after there was none for a while: everything is asked for anew, and that
    /// while does not count as time without use.
    pub(super) fn restart(&mut self, now: Instant, down: Duration) {
        for want in self.names.values_mut() {
            want.asked_at = now;
            want.used_at = (want.used_at + down).min(now);
        }
    }

    /// Notes an answer. True when it differs from what was known.
    pub(super) fn answered(&mut self, name: &str, answer: Answer) -> bool {
        let Some((name, want)) = self.names.get_key_value(name) else { return false };
        if want.answer == answer {
            return false;
        }
        let name = name.clone();
        match &answer {
            Answer::Absent(_) => self.negatives.insert(name.clone()),
            _ => self.negatives.remove(&name),
        };
        if let Some(want) = self.names.get_mut(&name) {
            want.answer = answer;
        }
        true
    }

    /// What is known about a name.
    pub(super) fn answer(&self, name: &str) -> &Answer {
        self.names.get(name).map_or(&Answer::Unknown, |want| &want.answer)
    }

    /// Whether the name is wanted.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether nothing is wanted.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether everything is wanted.
    pub(super) fn wildcard(&self) -> bool {
        self.names.contains_key(WILDCARD)
    }

    /// All names wanted.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.keys()
    }

    /// Names that nobody used for as long as `limit`.
    pub(super) fn expired(&self, now: Instant, limit: Duration) -> Vec<Name> {
        let mut names =
            self.select(|want| want.idle() && now.duration_since(want.used_at) >= limit);
        names.retain(|name| &**name != WILDCARD);
        names
    }

    /// Names that the server has left unanswered for too long.
    pub(super) fn unanswered(&self, now: Instant) -> Vec<Name> {
        self.select(|want| {
            want.answer == Answer::Unknown && now.duration_since(want.asked_at) >= UNANSWERED_LIMIT
        })
    }

    /// The negative name that traffic has not used for longest, if there are too many.
    pub(super) fn negative_too_many(&self) -> Option<Name> {
        if self.negatives.len() <= NEGATIVE_NAMES_LIMIT {
            return None;
        }
        let idle = self.negatives.iter().filter_map(|name| {
            let want = self.names.get(name)?;
            want.idle().then_some((want.used_at, name))
        });
        idle.min().map(|(_, name)| name.clone())
    }

    /// The names of traffic beyond [`USED_NAMES_LIMIT`]: those that lead to nothing before those
    /// that do, of these the ones not used for longest.
    pub(super) fn used_too_many(&self) -> Vec<Name> {
        if self.names.len() <= USED_NAMES_LIMIT {
            return Vec::new();
        }
        let of_traffic = self
            .names
            .iter()
            .filter(|(name, want)| want.by_traffic && want.idle() && &***name != WILDCARD);
        let mut oldest: Vec<_> = of_traffic
            .map(|(name, want)| (matches!(want.answer, Answer::Present(_)), want.used_at, name))
            .collect();
        let excess = oldest.len().saturating_sub(USED_NAMES_LIMIT);
        oldest.sort_unstable();
        oldest.into_iter().take(excess).map(|(_, _, name)| name.clone()).collect()
    }

    fn select(&self, pick: impl Fn(&Want) -> bool) -> Vec<Name> {
        let picked = self.names.iter().filter(|(_, want)| pick(want));
        picked.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
#[path = "interest/tests.rs"]
mod tests;
