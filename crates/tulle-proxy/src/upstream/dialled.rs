//! Endpoints that exist because somebody dialled them (`ORIGINAL_DST`).
//!
//! As many as [`MAX_ORIGINAL_DESTINATIONS`] are remembered, so that connections to them are reused.
//! Beyond that a new one takes the place of one that was not used for longest: whoever dials a
//! thousand addresses must not keep others from theirs.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::UpstreamEndpoint;

/// Endpoints that one `ORIGINAL_DST` cluster remembers at once, per worker.
pub(super) const MAX_ORIGINAL_DESTINATIONS: usize = 4_096;
/// An original destination that nobody dialled for so long is forgotten.
pub(super) const ORIGINAL_DESTINATION_LIFE: Duration = Duration::from_secs(60);
/// How many are looked at for one that is not in use when another needs its place.
const MAX_LOOKS: usize = 64;

/// The endpoints that were dialled lately.
#[derive(Debug, Default)]
pub(super) struct Dialled {
    entries: HashMap<SocketAddr, Entry>,
    /// Every address once, with when it was last used as of its coming here.
    queue: VecDeque<(SocketAddr, Instant)>,
}

#[derive(Debug)]
struct Entry {
    endpoint: Rc<UpstreamEndpoint>,
    last: Cell<Instant>,
}

impl Entry {
    /// Whether a request or connection is under way there: who picked it has it as long as that.
    fn is_in_use(&self) -> bool {
        Rc::strong_count(&self.endpoint) > 1
    }
}

impl Dialled {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every endpoint, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<UpstreamEndpoint>> {
        self.entries.values().map(|entry| &entry.endpoint)
    }

    /// Whether `address` is remembered.
    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        self.entries.contains_key(&address)
    }

    /// The endpoint at `address`, used now.
    pub(super) fn find(&self, address: SocketAddr, now: Instant) -> Option<Rc<UpstreamEndpoint>> {
        let entry = self.entries.get(&address)?;
        entry.last.set(now);
        Some(Rc::clone(&entry.endpoint))
    }

    /// Makes room for one more; the endpoint that lost its place, if one had to.
    ///
    /// # Errors
    /// All that were looked at are in use. The next call looks at others.
    pub(super) fn make_room(&mut self) -> Result<Option<Rc<UpstreamEndpoint>>, Full> {
        if self.entries.len() < MAX_ORIGINAL_DESTINATIONS {
            return Ok(None);
        }
        let mut oldest: Option<(Instant, SocketAddr)> = None;
        for _ in 0..MAX_LOOKS {
            let (address, queued) = self.queue.pop_front().ok_or(Full)?;
            let Some(entry) = self.entries.get(&address) else { continue };
            let last = entry.last.get();
            if !entry.is_in_use() && last <= queued {
                return Ok(self.entries.remove(&address).map(|entry| entry.endpoint));
            }
            // Used since it came here, so perhaps not the one unused for longest; or in use.
            self.queue.push_back((address, last));
            if !entry.is_in_use() && oldest.is_none_or(|(least, _)| last < least) {
                oldest = Some((last, address));
            }
        }
        let (_, address) = oldest.ok_or(Full)?;
        // It stands among the last that were put back.
        if let Some(place) = self.queue.iter().rposition(|(other, _)| *other == address) {
            self.queue.remove(place);
        }
        Ok(self.entries.remove(&address).map(|entry| entry.endpoint))
    }

    /// Remembers an endpoint for which there is room.
    pub(super) fn insert(
        &mut self,
        address: SocketAddr,
        endpoint: &Rc<UpstreamEndpoint>,
        now: Instant,
    ) {
        let entry = Entry { endpoint: Rc::clone(endpoint), last: Cell::new(now) };
        self.entries.insert(address, entry);
        self.queue.push_back((address, now));
    }

    /// Forgets those that nobody dialled for a while and nobody is connected to.
    pub(super) fn forget_unused(&mut self, now: Instant) {
        self.entries.retain(|_, Entry { endpoint, last }| {
            now - last.get() < ORIGINAL_DESTINATION_LIFE || endpoint.connections() > 0
        });
        self.queue.retain(|(address, _)| self.entries.contains_key(address));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.queue.clear();
    }
}

/// There is no room for another destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;
