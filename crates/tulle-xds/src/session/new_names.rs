//! Names that traffic asks for and that nobody asked for before: so many a second, and in which
//! order.
//!
//! What comes faster than [`NEW_NAMES_PER_SECOND`] waits, so that a name which somebody means is
//! asked for in the middle of a flood of names that somebody makes up. Those are mostly alike: of
//! one domain, of one machine. So names wait by neighbourhood, these take turns, and where too many
//! wait, the largest gives one up: what a crowd loses is its own (fair queueing with
//! "longest queue drop": McKenney, "Stochastic Fairness Queueing", 1990).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::client::{NEW_NAMES_PER_SECOND, WAITING_NAMES_LIMIT, WAITING_TIME_LIMIT};
use super::message::{Name, ResourceType};

/// A name of a type.
type Key = (ResourceType, Name);

/// The names of a client that are new.
#[derive(Debug, Default)]
pub(super) struct NewNames {
    bucket: Bucket,
    /// Those that wait, by neighbourhood, oldest first. None is empty.
    waiting: BTreeMap<Box<str>, VecDeque<Waiting>>,
    /// The neighbourhoods, whose turn is next first.
    turns: VecDeque<Box<str>>,
    /// All that wait.
    count: usize,
}

#[derive(Debug)]
struct Waiting {
    key: Key,
    since: Instant,
}

impl NewNames {
    /// Takes in a name that is not known. What has to be refused for it, which may be the name
    /// itself, is returned; the rest comes out of [`next`](Self::next).
    pub(super) fn offer(&mut self, key: Key, now: Instant) -> Option<Key> {
        let home = neighbourhood(&key.1);
        let same = self.waiting.entry(home.into()).or_default();
        if same.iter().any(|waiting| waiting.key == key) {
            return None;
        }
        if same.is_empty() {
            self.turns.push_back(home.into());
        }
        same.push_back(Waiting { key, since: now });
        self.count += 1;
        if self.count <= WAITING_NAMES_LIMIT { None } else { self.crowd_out() }
    }

    /// The next name that may be asked for now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Key> {
        if self.turns.is_empty() || !self.bucket.admit(now) {
            return None;
        }
        let home = self.turns.pop_front()?;
        let same = self.waiting.get_mut(&home)?;
        let next = same.pop_front()?;
        self.count -= 1;
        if same.is_empty() {
            self.waiting.remove(&home);
        } else {
            self.turns.push_back(home);
        }
        Some(next.key)
    }

    /// Names that have waited for so long that nobody waits for them any more.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Key> {
        let mut overdue = Vec::new();
        for same in self.waiting.values_mut() {
            let old = |one: &Waiting| now.duration_since(one.since) >= WAITING_TIME_LIMIT;
            while same.front().is_some_and(old) {
                overdue.extend(same.pop_front().map(|waiting| waiting.key));
            }
        }
        self.count -= overdue.len();
        self.waiting.retain(|_, same| !same.is_empty());
        self.turns.retain(|home| self.waiting.contains_key(home));
        overdue
    }

    /// The newest of the largest neighbourhood, which would wait longest.
    fn crowd_out(&mut self) -> Option<Key> {
        let largest = self.waiting.values().map(VecDeque::len).max()?;
        let (home, same) = self.waiting.iter_mut().find(|(_, same)| same.len() == largest)?;
        let out = same.pop_back()?;
        self.count -= 1;
        if same.is_empty() {
            let home = home.clone();
            self.turns.retain(|turn| *turn != home);
            self.waiting.remove(&home);
        }
        Some(out.key)
    }
}

/// What names have in common that somebody makes up in a row: of a host the domain that it is in,
/// of an address its network (/24, /64). The port, if there is one, is left out.
fn neighbourhood(name: &str) -> &str {
    let host = match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => name,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(IpAddr::V4(_)) => bare.rsplit_once('.').map_or(bare, |(network, _)| network),
        Ok(IpAddr::V6(_)) => {
            let groups = bare.match_indices(':').map(|(at, _)| at);
            groups.take(4).last().map_or(bare, |at| &bare[..at])
        }
        Err(_) => host.split_once('.').map_or("", |(_, domain)| domain),
    }
}

/// A bucket of [`NEW_NAMES_PER_SECOND`] tokens, filled evenly.
#[derive(Debug, Default)]
struct Bucket {
    /// When it would be full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a token, if there is one.
    fn admit(&mut self, now: Instant) -> bool {
        let cost = Duration::from_secs(1) / NEW_NAMES_PER_SECOND;
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + cost;
        let admitted = full_at.duration_since(now) <= Duration::from_secs(1);
        if admitted {
            self.full_at = Some(full_at);
        }
        admitted
    }
}

#[cfg(test)]
#[path = "new_names/tests.rs"]
mod tests;
