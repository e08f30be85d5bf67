//! Which route a request takes, and what the route does with it.

use tulle_model::decide::path::{Path, normalize};
use tulle_model::decide::request as joints;
use tulle_model::decide::route::{RouteFacts, Routed, route};
use tulle_model::flag::ResponseFlag;
use tulle_model::head::{RequestHead, Scheme};
use tulle_model::http::{FaultAbort, FaultDelay, FaultSettings, HttpManager, OverrideSetting};
use tulle_model::lookup::{Absence, Decision};
use tulle_model::matcher::Fraction;
use tulle_model::name::ClusterName;
use tulle_model::route::{
    ClusterChoice, Forward, HostRewrite, PathRewrite, Route, RouteAction, VirtualHost,
};
use tulle_model::trace::Step;

use super::call::Call;
use super::connection::Taken;
use super::store::Store;
use super::{End, upstream};

pub(super) fn explain(
    store: &mut Store<'_>,
    call: &Call,
    taken: &Taken,
    manager: &HttpManager,
) -> End {
    let mut head = call.request.clone();
    if let Some(end) = normalized(store, &mut head, manager) {
        return end;
    }
    let name = joints::destination_name(&taken.listener, taken.original, &head);
    let found = store
        .decide(|now, steps| joints::route_configuration(now, manager, name.as_deref(), steps));
    let config = match found {
        Ok(config) => config,
        Err(absence) => return no_routes(store, &absence),
    };
    let facts = RouteFacts {
        random: call.random,
        is_tls: head.scheme == Some(Scheme::Https),
        is_internal: !manager.trust.use_remote_address,
    };
    let found = store.decide(|_, steps| {
        Decision::Decided(match route(&config, &head, facts, steps) {
            Routed::Route(host, route) => Ok((host.clone(), route.clone())),
            Routed::NeedsTls(_) => Err(End::Redirected { status: 301 }),
            Routed::NoVirtualHost => Err(not_found("no virtual host has the authority")),
            Routed::NoRoute(_) => Err(not_found("no route of the virtual host matches")),
        })
    });
    match found {
        Ok((host, route)) => by_route(store, call, &head, (&host, &route)),
        Err(end) => end,
    }
}

/// Brings the path to the form in which it is matched; an end if that is the end of it.
fn normalized(store: &mut Store<'_>, head: &mut RequestHead, manager: &HttpManager) -> Option<End> {
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
        Path::Redirect(_) => Some(End::Redirected { status: 307 }),
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
            End::Redirected { status: redirect.status }
        }
        RouteAction::DirectResponse(response) => {
            let text = format!("the proxy itself answers {}", response.status);
            store.step(Step::new("answer", text).by(route.origin.as_ref()));
            End::Answered { status: response.status }
        }
        RouteAction::Forward(forward) => {
            settings(store, host, route, forward);
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
    if let Some((pause, share)) = delay {
        let pause = match pause {
            FaultDelay::Fixed(pause) => format!("{pause:?}"),
            FaultDelay::Header => "as long as the request asks for".to_owned(),
        };
        let text = format!("{} wait {pause}", percent(*share));
        store.step(Step::new("fault", text).by(route.origin.as_ref()));
    }
    let (abort, share) = abort.as_ref()?;
    let (text, status) = match abort {
        FaultAbort::Http(status) => (format!("answer {status}"), *status),
        FaultAbort::Grpc(status) => (format!("answer gRPC status {status}"), 200),
        // Mesh objects cannot ask for it; what the request says is not known here.
        FaultAbort::Header => return None,
    };
    let text = format!("{} get the {text}", percent(*share));
    store.step(Step::new("fault", text).by(route.origin.as_ref()));
    (share.numerator >= share.denominator).then(|| End::Refused {
        status,
        flag: ResponseFlag::FaultInjected,
        why: "a fault is injected into every request".to_owned(),
    })
}

fn percent(share: Fraction) -> String {
    let Fraction { numerator, denominator } = share;
    let percent = f64::from(numerator) * 100.0 / f64::from(denominator.max(1));
    format!("{percent} % of requests")
}

/// What the route says beside where it goes.
fn settings(store: &mut Store<'_>, host: &VirtualHost, route: &Route, forward: &Forward) {
    let mut tell = |about, text: String| {
        store.step(Step::new(about, text).by(route.origin.as_ref()));
    };
    match &forward.path_rewrite {
        None => {}
        Some(PathRewrite::Prefix(prefix)) => {
            tell("rewrite", format!("what of the path matched becomes {prefix}"));
        }
        Some(PathRewrite::Pattern(_)) => tell("rewrite", "the path, by a pattern".to_owned()),
    }
    match &forward.host_rewrite {
        Some(HostRewrite::Literal(host)) => tell("rewrite", format!("the authority is {host}")),
        Some(_) => tell("rewrite", "the authority".to_owned()),
        None => {}
    }
    if let Some(timeout) = forward.timeout {
        tell("timeout", format!("{timeout:?} for the whole answer"));
    }
    if let Some(retry) = forward.retry.as_ref().or(host.retry.as_ref()) {
        tell(
            "retries",
            match retry.max_retries {
                0 => "none".to_owned(),
                most => format!("at most {most}, on {}", retry.on),
            },
        );
    }
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
