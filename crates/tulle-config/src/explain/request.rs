//! Which route a request takes, and what the route does with it.

use tulle_model::decide::caller::{Peer, at_the_mesh, believe};
use tulle_model::decide::path::{Path, normalize};
use tulle_model::decide::request as joints;
use tulle_model::decide::retry::effort;
use tulle_model::decide::rewrite::{self, location, location_over_tls};
use tulle_model::decide::route::{RouteFacts, Routed, route};
use tulle_model::flag::ResponseFlag;
use tulle_model::head::RequestHead;
use tulle_model::http::{
    FaultAbort, FaultDelay, FaultSettings, HttpConnectionManager, OverrideSetting,
};
use tulle_model::lookup::{Absence, Decision};
use tulle_model::matcher::Fraction;
use tulle_model::name::ClusterName;
use tulle_model::route::{ClusterChoice, Forward, Route, RouteAction, VirtualHost};
use tulle_model::trace::Step;

use super::call::Call;
use super::connection::{Taken, UNKNOWN};
use super::store::Store;
use super::{End, Fault, Sent, upstream};

pub(super) fn explain(
    store: &mut Store<'_>,
    call: &Call,
    taken: &Taken,
    manager: &HttpConnectionManager,
) -> End {
    let mut head = call.request.clone();
    if let Some(end) = normalized(store, &mut head, manager) {
        return end;
    }
    let ip = call.from.addresses.first().copied().unwrap_or(UNKNOWN);
    at_the_mesh(&mut head, manager.trust.use_remote_address, taken.listener.direction);
    believe(&mut head, &manager.trust, Peer { ip, is_tls: false });
    let name = joints::destination_name(&taken.listener, taken.original, &head);
    let found =
        store.decide(|now, steps| joints::route_configuration(now, manager, name.as_ref(), steps));
    let config = match found {
        Ok(config) => config,
        Err(absence) => return no_routes(store, &absence),
    };
    let facts = RouteFacts::of(&head, call.random);
    let of_config = config.origin.as_ref();
    let found = store.decide(|_, steps| {
        Decision::Decided(match route(&config, &head, facts, steps) {
            Routed::Route(host, route) => Ok((host.clone(), route.clone())),
            Routed::NeedsTls(_) => {
                Err((End::Redirected { status: 301, location: location_over_tls(&head) }, None))
            }
            Routed::NoVirtualHost => {
                Err((not_found("no virtual host has the authority"), of_config.cloned()))
            }
            Routed::NoRoute(host) => {
                let origin = host.origin.as_ref().or(of_config);
                Err((not_found("no route of the virtual host matches"), origin.cloned()))
            }
        })
    });
    match found {
        Ok((host, route)) => {
            store.decided.routes = config.name.to_string();
            store.decided.route = route.name.to_string();
            let of_host = route.origin.as_ref().or(host.origin.as_ref());
            store.decided.origin = of_host.or(of_config).cloned();
            by_route(store, call, &head, (&host, &route))
        }
        Err((end, origin)) => {
            store.decided.origin = origin.or(store.decided.origin.take());
            end
        }
    }
}

/// Brings the path to the form in which it is matched; an end if that is the end of it.
fn normalized(
    store: &mut Store<'_>,
    head: &mut RequestHead,
    manager: &HttpConnectionManager,
) -> Option<End> {
    let refused = End::Refused {
        status: 400,
        flag: ResponseFlag::DownstreamProtocolError,
        why: "the path cannot be brought to its one form".to_owned(),
    };
    match normalize(head.path(), manager.path) {
        Path::Same => None,
        Path::Changed(path) => {
            let text = format!("is taken as {}", String::from_utf8_lossy(&path));
            store.step(Step::new("path", text));
            head.set_path(&path).err().map(|_| refused)
        }
        Path::Redirect(path) => {
            let location = String::from_utf8_lossy(&path).into_owned();
            Some(End::Redirected { status: 307, location })
        }
        Path::Refused => Some(refused),
    }
}

fn not_found(why: &str) -> End {
    End::Refused { status: 404, flag: ResponseFlag::NoRouteFound, why: why.to_owned() }
}

fn no_routes(store: &mut Store<'_>, absence: &Absence) -> End {
    let why = format!("there are no routes for it: {absence}");
    store.step(Step::new("routes", why.clone()));
    match absence {
        Absence::NotFound | Absence::NotConfigured => not_found(&why),
        Absence::Rejected(_) | Absence::Overflow | Absence::TimedOut => {
            End::Refused { status: 503, flag: ResponseFlag::NoClusterFound, why }
        }
    }
}

fn by_route(
    store: &mut Store<'_>,
    call: &Call,
    head: &RequestHead,
    (host, route): (&VirtualHost, &Route),
) -> End {
    if let Some(end) = fault(store, head, (host, route)) {
        return end;
    }
    match &route.action {
        RouteAction::Redirect(redirect) => {
            let text = format!("the caller is sent elsewhere ({})", redirect.status);
            store.step(Step::new("redirect", text).by(route.origin.as_ref()));
            let location = location(redirect, &route.matches.path, head);
            End::Redirected { status: redirect.status, location }
        }
        RouteAction::DirectResponse(response) => {
            let text = format!("the proxy itself answers {}", response.status);
            store.step(Step::new("answer", text).by(route.origin.as_ref()));
            End::Answered { status: response.status }
        }
        RouteAction::Forward(forward) => {
            settings(store, head, (host, route), forward);
            let Some(clusters) = clusters(forward, head) else {
                return End::Refused {
                    status: forward.cluster_not_found_status,
                    flag: ResponseFlag::NoClusterFound,
                    why: "the request does not name the cluster it goes to".to_owned(),
                };
            };
            let shares = upstream::shares(store, call, &clusters);
            upstream::end(shares)
        }
    }
}

/// What may be injected; an end if it always ends the request.
fn fault(
    store: &mut Store<'_>,
    head: &RequestHead,
    (host, route): (&VirtualHost, &Route),
) -> Option<End> {
    let settings = [&route.overrides, &host.overrides].into_iter().flatten();
    let FaultSettings { delay, abort, headers, .. } =
        settings.into_iter().find_map(|over| match &over.setting {
            OverrideSetting::Fault(settings) => Some(&**settings),
            OverrideSetting::Disabled | OverrideSetting::Buffer(_) => None,
        })?;
    if !headers.iter().all(|header| header.matches_request(head)) {
        return None;
    }
    let mut fault = Fault::default();
    if let Some((pause, share)) = delay {
        fault.delay_percent = percent(*share);
        let pause = match pause {
            FaultDelay::Fixed(pause) => {
                fault.delay_ms = pause.as_millis();
                format!("{pause:?}")
            }
            FaultDelay::Header => "as long as the request asks for".to_owned(),
        };
        let text = format!("{} % of requests wait {pause}", percent(*share));
        store.step(Step::new("fault", text).by(route.origin.as_ref()));
    }
    let Some((abort, share)) = abort else {
        store.decided.fault = Some(fault);
        return None;
    };
    let (text, status) = match abort {
        FaultAbort::Http(status) => (format!("answer {status}"), *status),
        FaultAbort::Grpc(status) => (format!("answer gRPC status {status}"), 200),
        // Mesh objects cannot ask for it; what the request says is not known here.
        FaultAbort::Header => return None,
    };
    let text = format!("{} % of requests get the {text}", percent(*share));
    store.step(Step::new("fault", text).by(route.origin.as_ref()));
    store.decided.fault = Some(Fault { abort_percent: percent(*share), status, ..fault });
    (share.numerator >= share.denominator).then(|| End::Refused {
        status,
        flag: ResponseFlag::FaultInjected,
        why: "a fault is injected into every request".to_owned(),
    })
}

fn percent(Fraction { numerator, denominator }: Fraction) -> f64 {
    f64::from(numerator) * 100.0 / f64::from(denominator.max(1))
}

/// What the route says beside where it goes.
fn settings(
    store: &mut Store<'_>,
    head: &RequestHead,
    (host, route): (&VirtualHost, &Route),
    forward: &Forward,
) {
    let mut tell = |about, text: String| {
        store.step(Step::new(about, text).by(route.origin.as_ref()));
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = rewrite::path(forward, &route.matches, head).map(|path| text(&path));
    if let Some(path) = &path {
        tell("rewrite", format!("the path becomes {path}"));
    }
    let authority = rewrite::authority(forward, None, head).map(|authority| text(&authority));
    if let Some(authority) = &authority {
        tell("rewrite", format!("the authority is {authority}"));
    }
    let effort = effort(forward, host, head);
    if let Some(timeout) = effort.timeout {
        tell("timeout", format!("{timeout:?} for the whole answer"));
    }
    if let Some(per_try) = effort.per_try {
        tell("timeout", format!("{per_try:?} for one attempt"));
    }
    if let Some(retry) = &effort.policy {
        tell(
            "retries",
            match retry.max_retries {
                0 => "none".to_owned(),
                most => format!("at most {most}, on {}", retry.on),
            },
        );
    }
    let policy = effort.policy.as_deref();
    let milliseconds = |duration: std::time::Duration| duration.as_millis();
    store.decided.sent = Some(Sent {
        path: path.unwrap_or_else(|| text(head.path())),
        authority: authority.unwrap_or_else(|| text(head.authority())),
        timeout_ms: effort.timeout.map(milliseconds),
        per_try_ms: effort.per_try.map(milliseconds),
        retries: policy.map_or(0, |policy| policy.max_retries),
        retry_on: policy.map_or_else(String::new, |policy| policy.on.to_string()),
        retry_statuses: policy
            .map_or_else(Vec::new, |policy| policy.retriable_status_codes.clone()),
    });
}

/// The clusters that a request may go to, by weight.
fn clusters(forward: &Forward, head: &RequestHead) -> Option<Vec<(ClusterName, u32)>> {
    match &forward.cluster {
        ClusterChoice::Cluster(name) => Some(vec![(name.clone(), 1)]),
        ClusterChoice::Weighted(all) => {
            let all = all.iter().filter(|one| one.weight > 0);
            Some(all.map(|one| (one.name.clone(), one.weight)).collect())
        }
        ClusterChoice::Header(header) => {
            let name = head.value(header.into())?;
            std::str::from_utf8(name).ok().map(|name| vec![(ClusterName::from(name), 1)])
        }
    }
}
