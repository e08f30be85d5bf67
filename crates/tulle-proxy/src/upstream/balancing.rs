//! The balancer of a cluster. Where picking needs a large table (a ring, Maglev) it is made off the
//! worker: with the configuration, and after that whenever health changes, while picking goes on
//! with the table before.

use std::num::NonZeroU32;
use std::sync::Arc;

use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{Cluster, Discovery, DnsFamily, Endpoint, Endpoints, Health, LbPolicy};
use tulle_model::decide::balance::priority::Availability;
use tulle_model::decide::balance::{Balancer, Host, Settings};

use super::dns::Names;
use super::endpoint::Target;
use super::members::targets;

/// One address of a cluster as the configuration says.
#[derive(Clone, Debug)]
pub(super) struct Slot<'e> {
    pub(super) target: Target,
    pub(super) endpoint: &'e Endpoint,
    /// Index of its locality.
    pub(super) place: usize,
    pub(super) priority: u8,
}

/// Every address once, where it stands first in the list.
pub(super) fn slots<'e>(
    config: &Cluster,
    endpoints: &'e Endpoints,
    names: &Names,
) -> Vec<Slot<'e>> {
    let family = match &config.discovery {
        Discovery::StrictDns { family, .. } => *family,
        Discovery::Static(_) | Discovery::OriginalDst | Discovery::Eds(_) => DnsFamily::All,
    };
    let mut seen = std::collections::HashSet::new();
    let mut slots = Vec::new();
    for (place, group) in endpoints.localities.iter().enumerate() {
        for endpoint in &group.endpoints {
            for target in targets(&endpoint.address, names, family) {
                if seen.insert(target.clone()) {
                    slots.push(Slot { target, endpoint, place, priority: group.priority });
                }
            }
        }
    }
    slots
}

/// What a balancer has to know of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    key: String,
    weight: NonZeroU32,
    priority: u8,
    place: usize,
    availability: Availability,
}

impl Seat {
    pub(super) fn new(slot: &Slot<'_>, is_ejected: bool) -> Self {
        let key = match &*slot.endpoint.hash_key {
            "" => slot.target.to_string(),
            key => key.to_owned(),
        };
        let availability = match slot.endpoint.health {
            _ if is_ejected => Availability::Unavailable,
            Health::Unknown | Health::Healthy => Availability::Healthy,
            Health::Degraded => Availability::Degraded,
            Health::Unhealthy | Health::Draining | Health::Timeout => Availability::Unavailable,
        };
        let Slot { endpoint, place, priority, .. } = slot;
        Self { key, weight: endpoint.weight, priority: *priority, place: *place, availability }
    }
}

/// The balancer over `seats`.
pub(super) fn balancer(
    config: &Cluster,
    endpoints: &Endpoints,
    seats: &[Seat],
    seed: u64,
) -> Balancer {
    let weights: Vec<_> = endpoints.localities.iter().map(|locality| locality.weight).collect();
    let hosts = seats.iter().map(|seat| Host {
        key: &seat.key,
        weight: seat.weight,
        priority: seat.priority,
        locality: seat.place,
        availability: seat.availability,
    });
    let settings = Settings {
        policy: &config.policy,
        overprovisioning_percent: endpoints.overprovisioning_percent,
        panic_threshold_percent: config.panic_threshold_percent,
        locality_weights: &weights,
        seed,
    };
    Balancer::new(&settings, &hosts.collect::<Vec<_>>())
}

/// Whether picking needs a large table.
pub(super) fn has_table(config: &Cluster) -> bool {
    matches!(config.policy, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. })
}

/// A balancer that was made with the configuration, of endpoints none of which is ejected.
#[derive(Debug)]
pub(super) struct Beforehand {
    config: Arc<Cluster>,
    endpoints: Arc<Endpoints>,
    /// Whether names were resolved for it: then it holds for these addresses only.
    names: Option<Names>,
    pub(super) balancer: Balancer,
}

impl Beforehand {
    pub(super) fn new(config: &Arc<Cluster>, endpoints: &Arc<Endpoints>, names: &Names) -> Self {
        let slots = slots(config, endpoints, names);
        let seats: Vec<_> = slots.iter().map(|slot| Seat::new(slot, false)).collect();
        let is_name = |endpoint: &Endpoint| matches!(endpoint.address, EndpointAddress::Dns(..));
        Self {
            config: Arc::clone(config),
            endpoints: Arc::clone(endpoints),
            names: endpoints.iter().any(is_name).then(|| Arc::clone(names)),
            balancer: balancer(config, endpoints, &seats, 0),
        }
    }

    pub(super) fn is_of(
        &self,
        config: &Arc<Cluster>,
        endpoints: &Arc<Endpoints>,
        names: &Names,
    ) -> bool {
        Arc::ptr_eq(&self.config, config)
            && Arc::ptr_eq(&self.endpoints, endpoints)
            && self.names.as_ref().is_none_or(|known| Arc::ptr_eq(known, names))
    }
}
