//! Which clusters a call may go to, and who is there.

use std::sync::Arc;

use tulle_model::cluster::{Cluster, Discovery, Endpoints};
use tulle_model::decide::request as joints;
use tulle_model::flag::ResponseFlag;
use tulle_model::lookup::{Decision, Lookup};
use tulle_model::name::ClusterName;
use tulle_model::trace::Step;

use super::call::{Call, Dialled};
use super::store::Store;
use super::{End, Problem, Share};

/// What becomes of the calls to each of `clusters`.
pub(super) fn shares(
    store: &mut Store<'_>,
    call: &Call,
    clusters: &[(ClusterName, u32)],
) -> Vec<Share> {
    let total: u64 = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut shares = Vec::new();
    for (name, weight) in clusters {
        let found = store.decide(|now, _| joints::cluster(now, name));
        let part = match clusters.len() {
            1 => String::new(),
            _ => format!("{weight} of {total} go to "),
        };
        let share = match found {
            Ok(cluster) => {
                store.step(
                    Step::new("cluster", format!("{part}{name}")).by(cluster.origin.as_ref()),
                );
                within(store, call, &cluster, *weight)
            }
            Err(absence) => {
                store.step(Step::new("cluster", format!("{part}{name}: {absence}")));
                let why = format!("there is no cluster {name}: {absence}");
                failing(name, *weight, ResponseFlag::NoClusterFound, why)
            }
        };
        shares.push(share);
    }
    shares
}

fn failing(name: &ClusterName, weight: u32, flag: ResponseFlag, why: String) -> Share {
    let problem = Some(Problem { status: 503, flag, why });
    Share { cluster: name.clone(), weight, endpoints: Vec::new(), problem }
}

fn within(store: &mut Store<'_>, call: &Call, cluster: &Cluster, weight: u32) -> Share {
    let listed = match &cluster.discovery {
        Discovery::OriginalDst => None,
        Discovery::Static(endpoints) | Discovery::StrictDns { endpoints, .. } => {
            Some(Arc::clone(endpoints))
        }
        Discovery::Eds(name) => Some(store.decide(|now, _| match now.endpoints(name) {
            Lookup::Present(endpoints) => Decision::Decided(Arc::clone(endpoints)),
            Lookup::Absent(_) | Lookup::Unknown => {
                Decision::Decided(Arc::new(Endpoints::of(name.clone(), Vec::new())))
            }
        })),
    };
    let endpoints: Vec<String> = match &listed {
        None => vec![match &call.to {
            Dialled::Address(address) => address.to_string(),
            Dialled::Host(host, port) => format!("{host}:{port}"),
        }],
        Some(listed) => {
            let taking = listed.iter().filter(|endpoint| endpoint.health.takes_requests());
            taking.map(|endpoint| endpoint.address.to_string()).collect()
        }
    };
    let all = listed.as_ref().map_or(1, |listed| listed.iter().count());
    let text = match (endpoints.len(), listed.is_some()) {
        (_, false) => "where the caller was going".to_owned(),
        (0, true) => format!("none of {all} takes calls"),
        (some, true) if some == all => endpoints.join(", "),
        (some, true) => format!("{some} of {all} take calls: {}", endpoints.join(", ")),
    };
    store.step(Step::new("endpoints", text));
    if endpoints.is_empty() {
        let why = format!("no endpoint of {} takes calls", cluster.name);
        return failing(&cluster.name, weight, ResponseFlag::NoHealthyUpstream, why);
    }
    Share { cluster: cluster.name.clone(), weight, endpoints, problem: None }
}

/// What comes out: an end of its own where every share fails alike.
pub(super) fn end(shares: Vec<Share>) -> End {
    let mut problems = shares.iter().map(|share| share.problem.as_ref());
    let Some(first) = problems.next() else {
        return End::Refused {
            status: 503,
            flag: ResponseFlag::NoClusterFound,
            why: "every destination of the route has weight 0".to_owned(),
        };
    };
    let alike = |other: Option<&Problem>| match (first, other) {
        (Some(one), Some(other)) => (one.status, one.flag) == (other.status, other.flag),
        _ => false,
    };
    match first.cloned() {
        Some(Problem { status, flag, why }) if problems.all(alike) => {
            End::Refused { status, flag, why }
        }
        _ => End::Forwarded { to: shares },
    }
}
