//! Bytes that become configuration: from a control plane, from files. No input panics, and a
//! refusal always says why; endpoints that are taken have a balancer.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use tulle_config::load::{File, load_stored};
use tulle_model::cluster::{Discovery, Health, LbPolicy};
use tulle_model::decide::balance::priority::Availability;
use tulle_model::decide::balance::{Balancer, Host, Pick, Settings};
use tulle_model::resource::{Resource, ResourceKind};
use tulle_xds::decode;
use tulle_xds::fields::UnknownFields;
use tulle_xds::proto::envoy::config::bootstrap::v3::Bootstrap;
use tulle_xds::source::{Source, load};

/// A text as short as the targets' is read within this, with instrumentation, on a machine that
/// does much else: what is looked for grows without bound.
const BOUND: Duration = Duration::from_secs(60);

/// A resource of the kind that the first byte chooses, as it comes over the wire.
pub fn check_resource(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let kind = ResourceKind::ALL[usize::from(*choice) % ResourceKind::ALL.len()];
    let body = body.to_vec().into();
    let _ = decode::name_of(&body);
    for unknown in [UnknownFields::Warn, UnknownFields::Refuse] {
        match decode::resource(kind, &body, unknown) {
            Ok(read) => check_balancers(&read.value),
            Err(found) => assert!(!found.to_string().is_empty(), "refused without a reason"),
        }
    }
}

/// Endpoints that are taken can be picked from, whatever their numbers say.
fn check_balancers(resource: &Resource) {
    let (endpoints, panic_threshold_percent) = match resource {
        Resource::Endpoints(endpoints) => (endpoints, 50),
        Resource::Cluster(cluster) => match &cluster.discovery {
            Discovery::Static(endpoints) | Discovery::StrictDns { endpoints, .. } => {
                (endpoints, cluster.panic_threshold_percent)
            }
            Discovery::OriginalDst | Discovery::Eds(_) => return,
        },
        Resource::Listener(_) | Resource::Routes(_) => return,
    };
    let weights: Vec<_> = endpoints.localities.iter().map(|group| group.weight).collect();
    let hosts: Vec<Host<'_>> = endpoints
        .localities
        .iter()
        .enumerate()
        .flat_map(|(locality, group)| {
            group.endpoints.iter().map(move |endpoint| Host {
                key: &endpoint.hash_key,
                weight: endpoint.weight,
                priority: group.priority,
                locality,
                availability: match endpoint.health {
                    Health::Degraded => Availability::Degraded,
                    health if health.takes_requests() => Availability::Healthy,
                    _ => Availability::Unavailable,
                },
            })
        })
        .collect();
    for policy in [
        LbPolicy::RoundRobin,
        LbPolicy::LeastRequest { choices: NonZeroU32::MIN },
        LbPolicy::Random,
        LbPolicy::RingHash { minimum: 1, maximum: 1024 },
        LbPolicy::Maglev { table_size: 251 },
    ] {
        let settings = Settings {
            policy: &policy,
            overprovisioning_percent: endpoints.overprovisioning_percent,
            panic_threshold_percent,
            locality_weights: &weights,
            seed: 1,
        };
        let mut balancer = Balancer::new(&settings, &hosts);
        for random in 0..10 {
            let picked = balancer.pick(Pick { hash: None, random, choice: 0 }, |_| random);
            assert!(picked.is_none_or(|index| index < hosts.len()), "nobody was picked");
        }
    }
}

/// Objects of a user's file.
pub fn check_objects(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let start = Instant::now();
    let loaded = load_stored(&[File { path: "fuzz.yaml", text }]);
    let took = start.elapsed();
    assert!(took < BOUND, "{took:?} for {} bytes", text.len());
    assert!(loaded.refused.is_empty() || loaded.has_errors(), "refused without a reason");
}

/// A bootstrap file, down to what the proxy would run.
pub fn check_bootstrap(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let start = Instant::now();
    let read = load::<Bootstrap>(&[Source { name: "fuzz.yaml", text }]);
    match read {
        Ok(loaded) => drop(decode::bootstrap(loaded.message)),
        Err(errors) => assert!(!errors.0.is_empty(), "refused without a reason"),
    }
    let took = start.elapsed();
    assert!(took < BOUND, "{took:?} for {} bytes", text.len());
}
