//! The router: from a route to a cluster, an endpoint, an answer.

use std::rc::Rc;

use tulle_model::decide::request;
use tulle_model::decide::retry::{Attempt, AttemptFacts, RetryDecision, retry};
use tulle_model::flag::ResponseFlag;
use tulle_model::head::{KnownId, KnownSet};
use tulle_model::lookup::{Absence, Lookup};
use tulle_model::name::ClusterName;
use tulle_model::route::Forward;

use crate::http::attempt::{self, Attempted};
use crate::http::deliver::Route;
use crate::http::edit;
use crate::http::exchange::{Exchange, Failure};
use crate::http::hash;
use crate::http::reply::LocalReply;
use crate::http::route::Plan;
use crate::http::tries::{Next, Tries, expiry};
use crate::store::InVain;
use crate::upstream::cluster::{Dropped, UpstreamCluster};

/// Sends the request to its cluster and its answer back, trying again as the route allows.
///
/// # Errors
/// The answer of the proxy's own, or that the stream broke.
pub async fn forward(x: &mut Exchange<'_>, plan: &Plan) -> Result<(), Failure> {
    let Some(forward) = plan.forward() else {
        return Err(LocalReply::new(500, "route_without_forward", "").into());
    };
    allow_upgrade(x, forward)?;
    let name = plan.cluster(&x.request).ok_or_else(|| no_cluster(forward))?;
    let cluster = find_cluster(x, &name, forward).await?;
    x.record.cluster = Some(Rc::clone(&cluster));
    if let Some(dropped) = cluster.drops(|| x.cx.worker.random()) {
        return Err(shed(x, dropped).into());
    }
    let _request = cluster.admit(forward.priority).map_err(|_| overflow())?;
    let mut tries = Tries::new(x, forward, &plan.virtual_host);
    control_headers(x, &tries);
    edit::request(x, plan);
    // As the route has edited it.
    let policies = if cluster.hashes() { &*forward.hash } else { &[] };
    let route = Route { plan, hashed: hash::of(x, policies), priority: forward.priority };
    loop {
        count_attempts(x, plan, &tries);
        match attempt::attempt(x, &route, &cluster, &mut tries).await? {
            Attempted::Answered => return Ok(()),
            Attempted::Again => pause(x, &mut tries).await?,
        }
    }
}

/// Waits before the next attempt, for no longer than the request has.
async fn pause(x: &mut Exchange<'_>, tries: &mut Tries) -> Result<(), Failure> {
    let Some(pause) = tries.begin_next() else { return Ok(()) };
    tries.clocks.attempt_ends();
    tokio::select! {
        biased;
        expired = expiry(x.timer, &tries.clocks) => Err(attempt::expired(x, tries, expired).into()),
        () = tokio::time::sleep(pause) => Ok(()),
    }
}

fn allow_upgrade(x: &Exchange<'_>, forward: &Forward) -> Result<(), LocalReply> {
    let Some(protocol) = x.request.protocol() else { return Ok(()) };
    let named = |setting: &&tulle_model::route::UpgradeSetting| {
        setting.protocol.as_bytes().eq_ignore_ascii_case(protocol)
    };
    let of_route = forward.upgrades.iter().find(named);
    let setting = of_route.or_else(|| x.cx.manager.upgrades.iter().find(named));
    if setting.is_some_and(|setting| setting.enabled) {
        return Ok(());
    }
    Err(LocalReply::new(403, "upgrade_failed", ""))
}

/// The cluster and, where they are discovered, its endpoints.
async fn find_cluster(
    x: &Exchange<'_>,
    name: &ClusterName,
    forward: &Forward,
) -> Result<Rc<UpstreamCluster>, LocalReply> {
    let worker = &x.cx.worker;
    if let Lookup::Present(cluster) = worker.upstreams.cluster(&worker.store.load(), name) {
        return Ok(cluster);
    }
    let found =
        worker.store.decide(InVain::Fails, |snapshot| request::cluster(snapshot, name)).await;
    match found.and_then(|ready| ready) {
        Ok(_) => match worker.upstreams.cluster(&worker.store.load(), name) {
            Lookup::Present(cluster) => Ok(cluster),
            Lookup::Absent(_) | Lookup::Unknown => Err(no_cluster(forward)),
        },
        Err(Absence::NotFound | Absence::NotConfigured) => Err(no_cluster(forward)),
        Err(absence) => {
            let body = format!("cluster {name} is not known: {absence}");
            let reply = LocalReply::new(503, "cluster_not_found", body);
            Err(reply.flagged(ResponseFlag::NoClusterFound))
        }
    }
}

fn no_cluster(forward: &Forward) -> LocalReply {
    LocalReply::new(forward.cluster_not_found_status, "cluster_not_found", "")
        .flagged(ResponseFlag::NoClusterFound)
}

/// The answer when a circuit breaker is open.
#[must_use]
pub fn overflow() -> LocalReply {
    let body = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    LocalReply::new(503, "upstream_reset_before_response_started{overflow}", body)
        .flagged(ResponseFlag::UpstreamOverflow)
        .header(KnownId::XEnvoyOverloaded, "true")
}

/// The answer when the control plane has the proxies shed load.
fn shed(x: &Exchange<'_>, dropped: Dropped) -> LocalReply {
    let (details, body, flag, header) = match dropped {
        Dropped::Some => (
            "drop_overload",
            "drop overload",
            ResponseFlag::DropOverload,
            KnownId::XEnvoyDropOverload,
        ),
        Dropped::All => (
            "unconditional_drop_overload",
            "unconditional drop overload",
            ResponseFlag::UnconditionalDropOverload,
            KnownId::XEnvoyUnconditionalDropOverload,
        ),
    };
    let reply = LocalReply::new(503, details, body).flagged(flag);
    if x.cx.envoy_headers { reply.header(header, "true") } else { reply }
}

/// What callers say to the router.
const FOR_US: KnownSet = KnownSet::of(&[
    KnownId::XEnvoyUpstreamRequestTimeoutMs,
    KnownId::XEnvoyUpstreamRequestTimeoutAltResponse,
    KnownId::XEnvoyUpstreamRequestPerTryTimeoutMs,
    KnownId::XEnvoyRetryOn,
    KnownId::XEnvoyRetryGrpcOn,
    KnownId::XEnvoyMaxRetries,
    KnownId::XEnvoyRetriableHeaderNames,
    KnownId::XEnvoyRetriableStatusCodes,
    KnownId::XEnvoyHedgeOnPerTryTimeout,
    KnownId::XEnvoyUpstreamAltStatName,
]);

/// Takes away what was only for us.
fn control_headers(x: &mut Exchange<'_>, tries: &Tries) {
    x.request.headers.remove_all(FOR_US);
    expected_timeout(x, tries);
}

/// Tells the upstream how long it has.
fn expected_timeout(x: &mut Exchange<'_>, tries: &Tries) {
    let Some(expected) = tries.expected_timeout().filter(|_| x.cx.envoy_headers) else { return };
    let _ = x.request.headers.set_with(KnownId::XEnvoyExpectedRqTimeoutMs, |out| {
        out.push_u64(u64::try_from(expected.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
    });
}

fn count_attempts(x: &mut Exchange<'_>, plan: &Plan, tries: &Tries) {
    x.record.attempts += 1;
    if x.record.attempts > 1 {
        expected_timeout(x, tries);
    }
    if plan.virtual_host.include_request_attempt_count {
        let count = u64::from(x.record.attempts);
        let _ = x.request.headers.set_with(KnownId::XEnvoyAttemptCount, |out| {
            out.push_u64(count);
        });
    }
}

/// Whether an attempt that ended so is made again; if not, `reply` or the answer itself is final.
pub fn try_again(x: &mut Exchange<'_>, outcome: Attempt<'_>, tries: &Tries) -> bool {
    let Some(policy) = &tries.policy else { return false };
    let facts = AttemptFacts {
        retries: tries.retries,
        moves: tries.moves,
        idempotent: x.request.method.is_idempotent(),
        replayable: tries.is_replayable(),
    };
    tries.end_retry();
    let reached_nobody = matches!(outcome, Attempt::ConnectFailed | Attempt::ResetBeforeRequest);
    tries.next.set(if reached_nobody { Next::AtOnce } else { Next::Paused });
    match retry(policy, outcome, facts) {
        RetryDecision::Move => {
            tries.next.set(Next::Moved);
            true
        }
        RetryDecision::Retry => {
            // The budget keeps retries from adding load; an attempt that reached nobody added none.
            let permitted = reached_nobody || tries.begin_retry(x.record.cluster.as_deref());
            if !permitted {
                x.record.flags.insert(ResponseFlag::UpstreamOverflow);
                let cluster = x.record.cluster.as_deref();
                x.record.retry_refused = cluster.map(|cluster| tries.retry_limit(cluster));
            }
            permitted
        }
        RetryDecision::LimitReached if policy.max_retries > 0 => {
            x.record.flags.insert(ResponseFlag::UpstreamRetryLimitExceeded);
            false
        }
        RetryDecision::LimitReached | RetryDecision::Final | RetryDecision::BodyGone => false,
    }
}
