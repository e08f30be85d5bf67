//! Make before break: what a type of a stream must wait for in the other types.
//!
//! Additions go CDS → EDS → LDS, RDS: a listener or route configuration is sent only when every
//! cluster that is new to the client, with its endpoints, has been sent *and* acknowledged.
//! (A route configuration is asked for by a client that holds its listener, endpoints by one that
//! holds their cluster, so these two come in order by themselves; and so do clusters of a client
//! that asks for them by name, for which nothing waits.) Removals go the other way: a
//! resource is taken away only when everything that could refer to it has arrived in its newest
//! version and was acknowledged. Additions never wait for removals, so nothing waits in a circle.

use std::time::{Duration, Instant};

use super::message::{PerType, ResourceType};

/// Additions, and the first answer "does not exist", wait no longer than this.
pub const HOLD_LIMIT: Duration = Duration::from_secs(2);

/// A client that comes back says type by type what it holds. For so long nothing that it may still
/// refer to is taken away.
pub const RESUME_GRACE: Duration = Duration::from_secs(1);

/// What a type still has to do, as far as the others care.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Something that the client does not have (or should no longer have) was not sent.
    pub(super) unsent: bool,
    /// A response waits for its ACK.
    pub(super) in_flight: bool,
    /// Among what is unsent or in flight are resources that are new to the client.
    pub(super) introduces: bool,
    /// The client rejected something that it holds: it still uses what it had before.
    pub(super) rejected: bool,
}

/// Whether new and changed resources of a type may be sent.
pub(super) fn may_add(progress: &PerType<Progress>, rtype: ResourceType) -> bool {
    let after: &[ResourceType] = match rtype {
        ResourceType::Cluster | ResourceType::Endpoints => &[],
        ResourceType::Listener | ResourceType::Route => {
            &[ResourceType::Cluster, ResourceType::Endpoints]
        }
    };
    after.iter().all(|earlier| !progress[*earlier].introduces)
}

/// Whether a resource that the client holds may be taken away from it.
pub(super) fn may_remove(progress: &PerType<Progress>, rtype: ResourceType) -> bool {
    referrers(rtype).iter().all(|referrer| {
        let progress = progress[*referrer];
        !progress.unsent && !progress.in_flight && !progress.rejected
    })
}

/// Whether a client may be told that something it never held does not exist: it may have learned
/// the name from a resource whose next version, which no longer has the name, is on its way.
pub(super) fn may_deny(progress: &PerType<Progress>, rtype: ResourceType) -> bool {
    referrers(rtype).iter().all(|referrer| {
        let progress = progress[*referrer];
        !progress.unsent && !progress.in_flight
    })
}

/// Whether anything could refer to a resource of this type.
pub(super) fn has_referrers(rtype: ResourceType) -> bool {
    !referrers(rtype).is_empty()
}

fn referrers(rtype: ResourceType) -> &'static [ResourceType] {
    match rtype {
        ResourceType::Cluster => &[ResourceType::Listener, ResourceType::Route],
        ResourceType::Endpoints => {
            &[ResourceType::Cluster, ResourceType::Listener, ResourceType::Route]
        }
        ResourceType::Route => &[ResourceType::Listener],
        ResourceType::Listener => &[],
    }
}

/// Measures how long a type has been waiting for others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    since: Option<Instant>,
}

impl Hold {
    /// Notes whether something waits.
    pub(super) fn note(&mut self, waits: bool, now: Instant) {
        self.since = waits.then(|| self.since.unwrap_or(now));
    }

    /// Whether it has waited long enough.
    pub(super) fn over(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= HOLD_LIMIT)
    }

    /// When it will have waited long enough.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.since.map(|since| since + HOLD_LIMIT)
    }
}
