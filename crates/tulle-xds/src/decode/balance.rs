//! Load-balancing policies, in their old form (`lb_policy`) and in their new one.

use std::num::NonZeroU32;

use tulle_model::cluster::LbPolicy;

use super::protocol::extension;
use super::value::{enumeration, typed};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::cluster::v3 as pb;
use crate::proto::envoy::extensions::load_balancing_policies as ext;
use crate::proto::{Any, Packed};
use ext::cluster_provided::v3::ClusterProvided;
use ext::common::v3::{self as common, ConsistentHashingLbConfig, LocalityLbConfig};
use ext::least_request::v3::{LeastRequest, least_request::SelectionMethod};
use ext::maglev::v3::Maglev;
use ext::random::v3::Random;
use ext::ring_hash::v3::{RingHash, ring_hash};
use ext::round_robin::v3::RoundRobin;
use ext::wrr_locality::v3::WrrLocality;
use pb::cluster::LbPolicy as Wire;

/// Envoy's defaults.
const CHOICES: u32 = 2;
const RING_MINIMUM: u64 = 1024;
const RING_MAXIMUM: u64 = 8 * 1024 * 1024;
const MAGLEV_SIZE: u64 = 65_537;
/// Envoy's bound of a Maglev table.
const MAGLEV_MAXIMUM: u64 = 5_000_011;
/// Depth to which one policy may stand inside another.
const MAX_NESTING: usize = 4;

/// The policy of a cluster; the new form wins over the old one.
pub fn policy(
    kind: i32,
    config: Option<pb::cluster::LbConfig>,
    policies: Option<pb::LoadBalancingPolicy>,
    at: &At<'_>,
) -> Option<LbPolicy> {
    let kind: Wire = enumeration(kind, at, "lb_policy")?;
    match (kind, policies) {
        (Wire::LoadBalancingPolicyConfig, None) => {
            at.field("load_balancing_policy").fail("is missing")
        }
        (_, Some(message)) => extended(message, 0, &at.field("load_balancing_policy")),
        (kind, None) => configured(kind, config, at),
    }
}

fn configured(kind: Wire, config: Option<pb::cluster::LbConfig>, at: &At<'_>) -> Option<LbPolicy> {
    use pb::cluster::LbConfig;
    let policy = match (kind, config) {
        (Wire::RoundRobin, Some(LbConfig::RoundRobinLbConfig(message))) => {
            round_robin(message, &at.field("round_robin_lb_config"));
            LbPolicy::RoundRobin
        }
        (Wire::RoundRobin, None) => LbPolicy::RoundRobin,
        (Wire::LeastRequest, Some(LbConfig::LeastRequestLbConfig(message))) => {
            least_request(message, &at.field("least_request_lb_config"))?
        }
        (Wire::LeastRequest, None) => choices(CHOICES, at)?,
        (Wire::RingHash, Some(LbConfig::RingHashLbConfig(message))) => {
            ring_hash_config(message, &at.field("ring_hash_lb_config"))?
        }
        (Wire::RingHash, None) => ring(None, None, at)?,
        (Wire::Maglev, Some(LbConfig::MaglevLbConfig(message))) => {
            let at = at.field("maglev_lb_config");
            fields!(at, message => pb::cluster::MaglevLbConfig
                ["envoy.config.cluster.v3.Cluster.MaglevLbConfig"] { used: table_size; });
            maglev(table_size, &at)?
        }
        (Wire::Maglev, None) => maglev(None, at)?,
        (Wire::ClusterProvided, Some(LbConfig::OriginalDstLbConfig(message))) => {
            let at = at.field("original_dst_lb_config");
            fields!(at, message => pb::cluster::OriginalDstLbConfig
                ["envoy.config.cluster.v3.Cluster.OriginalDstLbConfig"] {
                refused: use_http_header "callers do not choose the destination",
                    http_header_name "callers do not choose the destination",
                    upstream_port_override "the port is the one that was dialled",
                    metadata_key "there is no metadata of a request";
            });
            LbPolicy::ClusterProvided
        }
        (Wire::ClusterProvided, None) => LbPolicy::ClusterProvided,
        (Wire::Random, None) => LbPolicy::Random,
        (Wire::LoadBalancingPolicyConfig, None) => {
            return at.field("load_balancing_policy").fail("is missing");
        }
        (_, Some(_)) => return at.field("lb_policy").fail("has settings of another policy"),
    };
    Some(policy)
}

fn round_robin(message: pb::cluster::RoundRobinLbConfig, at: &At<'_>) {
    fields!(at, message => pb::cluster::RoundRobinLbConfig
        ["envoy.config.cluster.v3.Cluster.RoundRobinLbConfig"] {
        warned: slow_start_config "a new endpoint has its whole share at once";
    });
}

fn least_request(message: pb::cluster::LeastRequestLbConfig, at: &At<'_>) -> Option<LbPolicy> {
    fields!(at, message => pb::cluster::LeastRequestLbConfig
        ["envoy.config.cluster.v3.Cluster.LeastRequestLbConfig"] {
        used: choice_count;
        warned: active_request_bias "load counts fully",
            slow_start_config "a new endpoint has its whole share at once";
    });
    choices(choice_count.unwrap_or(CHOICES), at)
}

fn ring_hash_config(message: pb::cluster::RingHashLbConfig, at: &At<'_>) -> Option<LbPolicy> {
    fields!(at, message => pb::cluster::RingHashLbConfig
        ["envoy.config.cluster.v3.Cluster.RingHashLbConfig"] {
        used: minimum_ring_size, maximum_ring_size;
        refused: hash_function "the ring is made with xxHash" unless 0;
    });
    ring(minimum_ring_size, maximum_ring_size, at)
}

fn choices(number: u32, at: &At<'_>) -> Option<LbPolicy> {
    match NonZeroU32::new(number).filter(|number| number.get() >= 2) {
        Some(choices) => Some(LbPolicy::LeastRequest { choices }),
        None => at.field("choice_count").fail("has to be at least 2"),
    }
}

fn ring(minimum: Option<u64>, maximum: Option<u64>, at: &At<'_>) -> Option<LbPolicy> {
    let maximum = maximum.unwrap_or(RING_MAXIMUM);
    let minimum = minimum.unwrap_or(RING_MINIMUM.min(maximum));
    if maximum > RING_MAXIMUM {
        return at.field("maximum_ring_size").fail(format!("is more than {RING_MAXIMUM}"));
    }
    if minimum == 0 || minimum > maximum {
        return at.field("minimum_ring_size").fail("has to be between 1 and the maximum");
    }
    Some(LbPolicy::RingHash { minimum, maximum })
}

fn maglev(size: Option<u64>, at: &At<'_>) -> Option<LbPolicy> {
    let table_size = size.unwrap_or(MAGLEV_SIZE);
    if table_size > MAGLEV_MAXIMUM || !is_prime(table_size) {
        let text = format!("has to be a prime number of at most {MAGLEV_MAXIMUM}");
        return at.field("table_size").fail(text);
    }
    Some(LbPolicy::Maglev { table_size })
}

/// Only asked for numbers up to [`MAGLEV_MAXIMUM`].
fn is_prime(number: u64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number >= 2 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

/// The first policy of the list that is known.
fn extended(message: pb::LoadBalancingPolicy, depth: usize, at: &At<'_>) -> Option<LbPolicy> {
    fields!(at, message => pb::LoadBalancingPolicy
        ["envoy.config.cluster.v3.LoadBalancingPolicy"] { used: policies; });
    if depth == MAX_NESTING {
        return at.fail(format!("policies stand inside each other more than {MAX_NESTING} deep"));
    }
    for (index, message) in policies.into_iter().enumerate() {
        let at = at.item("policies", index);
        fields!(at, message => pb::load_balancing_policy::Policy
            ["envoy.config.cluster.v3.LoadBalancingPolicy.Policy"] {
            used: typed_extension_config;
        });
        let at = at.field("typed_extension_config");
        let Some(any) = typed_extension_config.and_then(|message| extension(message, &at)) else {
            return at.fail("is missing");
        };
        let at = at.field("typed_config");
        if is_known(&any) {
            return known(&any, depth, &at);
        }
        at.warn(format!("`{}` is not supported and left out", any.type_url));
    }
    at.field("policies").fail("names no policy that is supported")
}

fn is_known(any: &Any) -> bool {
    [
        RoundRobin::TYPE_URL,
        LeastRequest::TYPE_URL,
        Random::TYPE_URL,
        RingHash::TYPE_URL,
        Maglev::TYPE_URL,
        ClusterProvided::TYPE_URL,
        WrrLocality::TYPE_URL,
    ]
    .contains(&any.type_url.as_str())
}

fn known(any: &Any, depth: usize, at: &At<'_>) -> Option<LbPolicy> {
    match any.type_url.as_str() {
        RoundRobin::TYPE_URL => {
            fields!(at, typed(any, at)? => RoundRobin
                ["envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"] {
                used: locality_lb_config;
                warned: slow_start_config "a new endpoint has its whole share at once";
            });
            localities(locality_lb_config, at);
            Some(LbPolicy::RoundRobin)
        }
        LeastRequest::TYPE_URL => new_least_request(typed(any, at)?, at),
        Random::TYPE_URL => {
            fields!(at, typed(any, at)? => Random
                ["envoy.extensions.load_balancing_policies.random.v3.Random"] {
                used: locality_lb_config;
            });
            localities(locality_lb_config, at);
            Some(LbPolicy::Random)
        }
        RingHash::TYPE_URL => new_ring_hash(typed(any, at)?, at),
        Maglev::TYPE_URL => {
            fields!(at, typed(any, at)? => Maglev
                ["envoy.extensions.load_balancing_policies.maglev.v3.Maglev"] {
                used: table_size, consistent_hashing_lb_config;
                warned: locality_weighted_lb_config "weights of localities count when they are set";
            });
            hashing(consistent_hashing_lb_config, at);
            maglev(table_size, at)
        }
        ClusterProvided::TYPE_URL => {
            fields!(at, typed(any, at)? => ClusterProvided
                ["envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided"]
                {});
            Some(LbPolicy::ClusterProvided)
        }
        _ => {
            fields!(at, typed(any, at)? => WrrLocality
                ["envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality"] {
                used: endpoint_picking_policy;
            });
            let at = at.field("endpoint_picking_policy");
            match endpoint_picking_policy {
                Some(message) => extended(message, depth + 1, &at),
                None => at.fail("is missing"),
            }
        }
    }
}

fn new_least_request(message: LeastRequest, at: &At<'_>) -> Option<LbPolicy> {
    fields!(at, message => LeastRequest
        ["envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"] {
        used: choice_count, locality_lb_config, selection_method;
        warned: active_request_bias "load counts fully",
            slow_start_config "a new endpoint has its whole share at once",
            enable_full_scan "some are compared, not all";
    });
    localities(locality_lb_config, at);
    let method: SelectionMethod = enumeration(selection_method, at, "selection_method")?;
    if method == SelectionMethod::FullScan {
        at.field("selection_method").warn("has no effect: some are compared, not all");
    }
    choices(choice_count.unwrap_or(CHOICES), at)
}

fn new_ring_hash(message: RingHash, at: &At<'_>) -> Option<LbPolicy> {
    fields!(at, message => RingHash
        ["envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"] {
        used: hash_function, minimum_ring_size, maximum_ring_size, consistent_hashing_lb_config;
        warned: use_hostname_for_hashing "endpoints are hashed by their address",
            hash_balance_factor "load does not change the choice",
            locality_weighted_lb_config "weights of localities count when they are set";
    });
    hashing(consistent_hashing_lb_config, at);
    match enumeration(hash_function, at, "hash_function")? {
        ring_hash::HashFunction::DefaultHash | ring_hash::HashFunction::XxHash => {}
        ring_hash::HashFunction::MurmurHash2 => {
            return at.field("hash_function").fail("the ring is made with xxHash");
        }
    }
    ring(minimum_ring_size, maximum_ring_size, at)
}

fn hashing(message: Option<ConsistentHashingLbConfig>, at: &At<'_>) -> Option<()> {
    let at = at.field("consistent_hashing_lb_config");
    fields!(at, message? => ConsistentHashingLbConfig
        ["envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig"] {
        refused: hash_policy "write it in the routes";
        warned: use_hostname_for_hashing "endpoints are hashed by their address",
            hash_balance_factor "load does not change the choice";
    });
    Some(())
}

fn localities(message: Option<LocalityLbConfig>, at: &At<'_>) -> Option<()> {
    use common::locality_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
    let at = at.field("locality_lb_config");
    fields!(at, message? => LocalityLbConfig
        ["envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig"] {
        used: locality_config_specifier;
        inert: zone_aware_lb_config "zones are not preferred";
    });
    match locality_config_specifier? {
        LocalityConfigSpecifier::ZoneAwareLbConfig(_) => {
            at.ignore::<LocalityLbConfig>("zone_aware_lb_config");
        }
        LocalityConfigSpecifier::LocalityWeightedLbConfig(message) => {
            let at = at.field("locality_weighted_lb_config");
            fields!(at, message => LocalityWeightedLbConfig
                ["envoy.extensions.load_balancing_policies.common.v3."
                "LocalityLbConfig.LocalityWeightedLbConfig"] {});
        }
    }
    Some(())
}
