//! Endpoints.

use std::num::NonZeroU32;
use std::sync::Arc;

use tulle_model::cluster::{Endpoint, Endpoints, Health, Locality, LocalityEndpoints};

use super::metadata::{Ours, hash_key};
use super::value::{address, each, enumeration, fraction, non_zero};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::config::endpoint::v3 as pb;

/// The endpoints of one cluster.
pub fn endpoints(message: pb::ClusterLoadAssignment, at: &At<'_>) -> Option<Endpoints> {
    fields!(at, message => pb::ClusterLoadAssignment
        ["envoy.config.endpoint.v3.ClusterLoadAssignment"] {
        used: cluster_name, endpoints, policy;
        refused: named_endpoints "write the endpoints in their localities";
    });
    if cluster_name.is_empty() {
        return at.field("cluster_name").fail("is missing");
    }
    let (drop, overprovisioning_percent) = policy
        .map_or_else(|| Some(Default::default()), |it| self::policy(it, &at.field("policy")))?;
    Some(Endpoints {
        name: cluster_name.into(),
        localities: each(at, "endpoints", endpoints, locality),
        overprovisioning_percent: overprovisioning_percent
            .unwrap_or(Endpoints::OVERPROVISIONING_PERCENT),
        drop,
    })
}

type Drops = Vec<(Arc<str>, u32)>;

fn policy(
    message: pb::cluster_load_assignment::Policy,
    at: &At<'_>,
) -> Option<(Drops, Option<u32>)> {
    fields!(at, message => pb::cluster_load_assignment::Policy
        ["envoy.config.endpoint.v3.ClusterLoadAssignment.Policy"] {
        used: drop_overloads, overprovisioning_factor;
        warned: endpoint_stale_after "endpoints are used until they are removed",
            weighted_priority_health "an endpoint counts once";
    });
    if overprovisioning_factor == Some(0) {
        return at.field("overprovisioning_factor").fail("has to be at least 1");
    }
    Some((each(at, "drop_overloads", drop_overloads, drop_overload), overprovisioning_factor))
}

fn drop_overload(
    message: pb::cluster_load_assignment::policy::DropOverload,
    at: &At<'_>,
) -> Option<(Arc<str>, u32)> {
    fields!(at, message => pb::cluster_load_assignment::policy::DropOverload
        ["envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.DropOverload"] {
        used: category, drop_percentage;
    });
    let Some(message) = drop_percentage else {
        return at.field("drop_percentage").fail("is missing");
    };
    let share = fraction(message, &at.field("drop_percentage"))?;
    let parts = u64::from(share.numerator) * u64::from(Endpoints::DROP_PARTS)
        / u64::from(share.denominator);
    match u32::try_from(parts) {
        Ok(parts) => Some((category.into(), parts)),
        Err(_) => at.field("drop_percentage").fail("is more than everything"),
    }
}

fn locality(message: pb::LocalityLbEndpoints, at: &At<'_>) -> Option<LocalityEndpoints> {
    use pb::locality_lb_endpoints::LbConfig;
    fields!(at, message => pb::LocalityLbEndpoints
        ["envoy.config.endpoint.v3.LocalityLbEndpoints"] {
        used: locality, metadata, lb_endpoints, load_balancing_weight, priority, lb_config;
        variants: leds_cluster_locality_config "localities are not discovered";
        warned: proximity "localities are told apart by priority and weight";
    });
    Ours::of(metadata, at);
    let mut endpoints = each(at, "lb_endpoints", lb_endpoints, endpoint);
    match lb_config {
        Some(LbConfig::LoadBalancerEndpoints(message)) => {
            let at = at.field("load_balancer_endpoints");
            fields!(at, message => pb::locality_lb_endpoints::LbEndpointList
                ["envoy.config.endpoint.v3.LocalityLbEndpoints.LbEndpointList"] {
                used: lb_endpoints;
            });
            endpoints.extend(each(&at, "lb_endpoints", lb_endpoints, endpoint));
        }
        Some(LbConfig::LedsClusterLocalityConfig(_)) => {
            at.refuse::<pb::LocalityLbEndpoints>("leds_cluster_locality_config");
        }
        None => {}
    }
    let weight = match load_balancing_weight {
        Some(number) => Some(non_zero(number, &at.field("load_balancing_weight"))?),
        None => None,
    };
    let priority = self::priority(priority, &at.field("priority"))?;
    let locality = locality.map(|place| self::place(place, at)).unwrap_or_default();
    Some(LocalityEndpoints { locality, priority, weight, endpoints })
}

fn priority(number: u32, at: &At<'_>) -> Option<u8> {
    let most = LocalityEndpoints::MAX_PRIORITY;
    match u8::try_from(number) {
        Ok(priority) if priority <= most => Some(priority),
        _ => at.fail(format!("{number} is more than {most}")),
    }
}

/// A place.
pub fn place(message: core::Locality, at: &At<'_>) -> Locality {
    let at = at.field("locality");
    fields!(at, message => core::Locality ["envoy.config.core.v3.Locality"] {
        used: region, zone, sub_zone;
    });
    Locality { region: region.into(), zone: zone.into(), sub_zone: sub_zone.into() }
}

fn endpoint(message: pb::LbEndpoint, at: &At<'_>) -> Option<Endpoint> {
    use pb::lb_endpoint::HostIdentifier;
    fields!(at, message => pb::LbEndpoint ["envoy.config.endpoint.v3.LbEndpoint"] {
        used: health_status, metadata, load_balancing_weight, host_identifier;
        variants: endpoint_name "write the endpoint in place";
    });
    let message = match host_identifier {
        Some(HostIdentifier::Endpoint(message)) => message,
        Some(HostIdentifier::EndpointName(_)) => {
            at.refuse::<pb::LbEndpoint>("endpoint_name");
            return None;
        }
        None => return at.field("endpoint").fail("is missing"),
    };
    let weight = match load_balancing_weight {
        Some(number) => non_zero(number, &at.field("load_balancing_weight"))?,
        None => NonZeroU32::MIN,
    };
    let health = health(enumeration(health_status, at, "health_status")?);
    let hash_key = metadata.as_ref().and_then(hash_key).unwrap_or_default();
    let peer = Arc::new(Ours::of(metadata, at).peer());
    let at = at.field("endpoint");
    fields!(at, message => pb::Endpoint ["envoy.config.endpoint.v3.Endpoint"] {
        used: address, hostname;
        refused: additional_addresses "an endpoint has one address";
        warned: health_check_config "endpoints are not checked actively",
            observability_name "endpoints are named by their address";
    });
    let address = match address {
        Some(message) => self::address(message, &at.field("address"))?,
        None => return at.field("address").fail("is missing"),
    };
    Some(Endpoint { address, hostname: hostname.into(), hash_key, weight, health, peer })
}

fn health(status: core::HealthStatus) -> Health {
    match status {
        core::HealthStatus::Unknown => Health::Unknown,
        core::HealthStatus::Healthy => Health::Healthy,
        core::HealthStatus::Unhealthy => Health::Unhealthy,
        core::HealthStatus::Draining => Health::Draining,
        core::HealthStatus::Timeout => Health::Timeout,
        core::HealthStatus::Degraded => Health::Degraded,
    }
}
