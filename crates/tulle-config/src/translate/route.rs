//! HTTP routes: the rules of a virtual service as one client meets them.

use std::sync::Arc;

use tulle_model::head::{HeaderName, KnownId};
use tulle_model::http::{FilterOverride, OverrideSetting};
use tulle_model::matcher::{
    HeaderCheck, HeaderMatch, PathMatch, QueryCheck, QueryMatch, StringMatch, StringMatchKind,
};
use tulle_model::name::ClusterName;
use tulle_model::origin::Origin;
use tulle_model::retry::{RetryOn, RetryPolicy};
use tulle_model::route::{
    ClusterChoice, Forward, HashCookie, HashPolicy, HashSource, HostRewrite, PathRewrite, Redirect,
    RedirectPath, Route, RouteAction, RouteMatch, VirtualHost, WeightedCluster,
};

use super::Context;
use super::network_filter::FAULT_FILTER;
use crate::client::Assembly;
use crate::istio::{
    self, Destination, HashKey, HttpAction, HttpDestination, HttpMatch, HttpRoute, LoadBalancer,
    RedirectPort, Retries, TextMatch,
};
use crate::world::{Place, Rule, Service};

/// Retries of a request nobody set any for, after the first attempt.
const DEFAULT_RETRIES: u32 = 2;
/// How often another endpoint than those tried before is looked for, as Istio has it.
const HOST_SELECTION_ATTEMPTS: u32 = 5;

/// Where and for which port rules are applied.
pub(super) struct Scope<'s> {
    /// At a sidecar or at gateways.
    pub(super) place: Place<'s>,
    /// The port the caller addressed.
    pub(super) port: u16,
}

/// Conditions that the client knows: a stock Envoy is not told the one that only we have.
fn known(context: &Context<'_>, on: RetryOn) -> RetryOn {
    match context.client.assembly() {
        Assembly::Tulle => on,
        Assembly::Envoy => on.without(RetryOn::IDLE_CONNECTION_RESET),
    }
}

/// What is tried again without being asked: only what cannot have been processed.
fn default_retry(context: &Context<'_>) -> Arc<RetryPolicy> {
    let mut policy = RetryPolicy::new(known(context, RetryOn::SAFE), DEFAULT_RETRIES);
    policy.other_host = true;
    policy.host_selection_attempts = HOST_SELECTION_ATTEMPTS;
    Arc::new(policy)
}

/// A virtual host of the mesh.
pub(super) fn virtual_host(
    context: &Context<'_>,
    name: &str,
    domains: Vec<Arc<str>>,
    routes: Vec<Arc<Route>>,
    origin: Option<Origin>,
) -> VirtualHost {
    VirtualHost {
        name: name.into(),
        domains,
        routes,
        require_tls: Default::default(),
        request_headers: Default::default(),
        response_headers: Default::default(),
        retry: Some(default_retry(context)),
        include_request_attempt_count: true,
        include_attempt_count_in_response: false,
        overrides: Vec::new(),
        origin,
    }
}

/// Whether any rule applies here, whatever the request.
pub(super) fn applies(context: &Context<'_>, rule: &Rule, scope: &Scope<'_>) -> bool {
    rule.spec().http.iter().any(|route| !conditions(context, rule, route, scope).is_empty())
}

/// The rules that apply, in order; nothing after one that takes everything.
pub(super) fn of_rule(context: &Context<'_>, rule: &Rule, scope: &Scope<'_>) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    for (index, route) in rule.spec().http.iter().enumerate() {
        let origin = rule.id.origin().at(format!("spec.http[{index}]"));
        let conditions = conditions(context, rule, route, scope);
        if conditions.is_empty() {
            continue;
        }
        let made = build(context, rule, route, scope, &origin);
        for (condition, matches) in conditions {
            let is_all = matches == RouteMatch::prefix("/");
            let mut made = made.clone();
            made.name = full_name(&route.name, condition.map_or("", |one| &one.name)).into();
            made.matches = matches;
            routes.push(Arc::new(made));
            if is_all {
                return routes;
            }
        }
    }
    routes
}

fn full_name(route: &str, condition: &str) -> String {
    match (route.is_empty(), condition.is_empty()) {
        (_, true) => route.to_owned(),
        (true, false) => condition.to_owned(),
        (false, false) => format!("{route}.{condition}"),
    }
}

/// The matches of a rule that can hold for this client here.
fn conditions<'r>(
    context: &Context<'_>,
    rule: &Rule,
    route: &'r HttpRoute,
    scope: &Scope<'_>,
) -> Vec<(Option<&'r HttpMatch>, RouteMatch)> {
    if route.matches.is_empty() {
        let applies = rule.applies(&[], &scope.place);
        return applies.then(|| (None, RouteMatch::prefix("/"))).into_iter().collect();
    }
    let holds = |condition: &&HttpMatch| {
        let namespace = condition.source_namespace.as_deref();
        rule.applies(&condition.gateways, &scope.place)
            && condition.port.is_none_or(|port| port == scope.port)
            && namespace.is_none_or(|wanted| wanted == context.client.namespace())
            && context.client.is_selected(&condition.source_labels)
    };
    let matches = route.matches.iter().filter(holds);
    matches.map(|condition| (Some(condition), route_match(condition))).collect()
}

fn route_match(condition: &HttpMatch) -> RouteMatch {
    let path = match &condition.uri {
        None | Some(TextMatch::Present) => PathMatch::Prefix("/".into()),
        Some(TextMatch::Exact(text)) => PathMatch::Exact(text.as_str().into()),
        Some(TextMatch::Prefix(text)) => PathMatch::Prefix(text.as_str().into()),
        Some(TextMatch::Regex(pattern)) => PathMatch::Pattern(pattern.clone()),
    };
    let pseudo = |name: &str, text: &Option<TextMatch>| {
        let name = HeaderName::parse(name)?;
        Some(header(name, text.as_ref()?, false))
    };
    let mut headers: Vec<HeaderMatch> = Vec::new();
    headers.extend(pseudo(":scheme", &condition.scheme));
    headers.extend(pseudo(":method", &condition.method));
    let host = HeaderName::from(KnownId::Host);
    headers.extend(condition.authority.as_ref().map(|text| header(host, text, false)));
    let plain = condition.headers.iter();
    headers.extend(plain.map(|(name, text)| header(name.clone(), text, false)));
    let without = condition.without_headers.iter();
    headers.extend(without.map(|(name, text)| header(name.clone(), text, true)));
    let query = condition.query.iter().map(|(name, text)| QueryMatch {
        name: name.as_str().into(),
        check: string(text).map_or(QueryCheck::Present(true), QueryCheck::String),
    });
    RouteMatch {
        path,
        ignore_case: condition.ignore_uri_case,
        headers,
        query: query.collect(),
        fraction: None,
        grpc_only: false,
    }
}

fn header(name: HeaderName, text: &TextMatch, invert: bool) -> HeaderMatch {
    let string = string(text);
    // A request without the header has it without that value, too.
    let treat_missing_as_empty = invert && string.is_some();
    let check = string.map_or(HeaderCheck::Present(true), HeaderCheck::String);
    HeaderMatch { name, check, invert, treat_missing_as_empty }
}

fn string(text: &TextMatch) -> Option<StringMatch> {
    let kind = match text {
        TextMatch::Exact(text) => StringMatchKind::Exact(text.as_str().into()),
        TextMatch::Prefix(text) => StringMatchKind::Prefix(text.as_str().into()),
        TextMatch::Regex(pattern) => StringMatchKind::Pattern(pattern.clone()),
        TextMatch::Present => return None,
    };
    Some(StringMatch { kind, ignore_case: false })
}

/// The route of a rule, its matches left open.
fn build(
    context: &Context<'_>,
    rule: &Rule,
    route: &HttpRoute,
    scope: &Scope<'_>,
    origin: &Origin,
) -> Route {
    let action = match &route.action {
        HttpAction::Redirect(redirect) => RouteAction::Redirect(redirection(redirect, scope.port)),
        HttpAction::Respond(response) => RouteAction::DirectResponse(response.clone()),
        HttpAction::Route(destinations, rewrite) => {
            let to = Destinations { rule, list: destinations, port: scope.port, origin };
            let mut forward = forward(context, &to);
            if let Some(rewrite) = rewrite {
                rewrite_into(&mut forward, rewrite);
            }
            if let Some(authority) = &route.headers.authority {
                forward.host_rewrite = Some(HostRewrite::Literal(authority.as_str().into()));
            }
            forward.timeout = route.timeout.filter(|timeout| !timeout.is_zero());
            forward.retry = route.retries.as_ref().map(|retries| retry(context, retries));
            RouteAction::Forward(forward)
        }
    };
    let fault = route.fault.iter().map(|settings| FilterOverride {
        filter: FAULT_FILTER.into(),
        setting: OverrideSetting::Fault(settings.clone().into()),
    });
    Route {
        name: "".into(),
        matches: RouteMatch::prefix("/"),
        action,
        request_headers: route.headers.request.clone(),
        response_headers: route.headers.response.clone(),
        overrides: fault.collect(),
        origin: Some(origin.clone()),
    }
}

/// The only route of a service without rules.
pub(super) fn to_service(context: &Context<'_>, cluster: ClusterName, origin: Origin) -> Route {
    let hash = hash_policies(super::cluster::balancer_of(context, &cluster).as_ref());
    everything(Forward { timeout: None, hash, ..Forward::to(cluster) }, Some(origin))
}

/// The only route of a port of the own application.
pub(super) fn to_application(cluster: ClusterName, origin: Origin) -> Route {
    everything(Forward { timeout: None, ..Forward::to(cluster) }, Some(origin))
}

/// The only route to what nobody declared.
pub(super) fn to_strangers(cluster: ClusterName) -> Route {
    everything(Forward { timeout: None, ..Forward::to(cluster) }, None)
}

fn everything(forward: Forward, origin: Option<Origin>) -> Route {
    Route {
        name: "default".into(),
        matches: RouteMatch::prefix("/"),
        action: RouteAction::Forward(forward),
        request_headers: Default::default(),
        response_headers: Default::default(),
        overrides: Vec::new(),
        origin,
    }
}

struct Destinations<'d> {
    rule: &'d Rule,
    list: &'d [HttpDestination],
    port: u16,
    origin: &'d Origin,
}

fn forward(context: &Context<'_>, to: &Destinations<'_>) -> Forward {
    let mut hash: Vec<HashPolicy> = Vec::new();
    let mut weighted = Vec::new();
    for (index, one) in to.list.iter().enumerate() {
        if one.weight == 0 {
            continue;
        }
        let cluster = cluster(context, &one.destination, &to.rule.id.namespace, to.port);
        for policy in hash_policies(cluster.balancer.as_ref()) {
            if !hash.contains(&policy) {
                hash.push(policy);
            }
        }
        weighted.push(WeightedCluster {
            name: cluster.name,
            weight: one.weight,
            request_headers: one.headers.request.clone(),
            response_headers: one.headers.response.clone(),
            host_rewrite: None,
            overrides: Vec::new(),
            origin: Some(to.origin.at(format!("{}.route[{index}]", to.origin.field))),
        });
    }
    let plain =
        |one: &WeightedCluster| one.request_headers.is_empty() && one.response_headers.is_empty();
    let choice = match weighted.as_slice() {
        [one] if plain(one) => ClusterChoice::Cluster(one.name.clone()),
        _ => ClusterChoice::Weighted(weighted.into()),
    };
    let mut forward = Forward::to(ClusterName::from(""));
    forward.cluster = choice;
    forward.timeout = None;
    forward.hash = hash;
    forward
}

/// A cluster that a destination names, and how its endpoints are picked.
pub(super) struct ChosenCluster {
    pub(super) name: ClusterName,
    pub(super) balancer: Option<LoadBalancer>,
}

/// The cluster of a destination written in an object of `namespace`.
///
/// Without a port it is the service's only one, else the one the caller addressed.
pub(super) fn cluster(
    context: &Context<'_>,
    destination: &Destination,
    namespace: &str,
    port: u16,
) -> ChosenCluster {
    let host = destination.host.as_str();
    let subset = destination.subset.as_deref().unwrap_or_default();
    let service: Option<&Arc<Service>> = context.world.service(host, namespace);
    let only = service.and_then(|service| match service.ports.as_slice() {
        [only] => Some(only.number),
        _ => None,
    });
    let port = destination.port.or(only).unwrap_or(port);
    let host = service.map_or(host, |service| &service.key.host);
    let name = ClusterName::outbound(port, subset, host);
    let balancer = super::cluster::balancer_of(context, &name);
    ChosenCluster { name, balancer }
}

fn hash_policies(balancer: Option<&LoadBalancer>) -> Vec<HashPolicy> {
    let Some(LoadBalancer::RingHash { key, .. }) = balancer else { return Vec::new() };
    let source = match key {
        HashKey::Header(name) => HashSource::Header(name.clone()),
        HashKey::Cookie { name, path, ttl } => HashSource::Cookie(HashCookie {
            name: name.as_str().into(),
            ttl: *ttl,
            path: path.as_str().into(),
            attributes: Vec::new(),
        }),
        HashKey::SourceAddress => HashSource::SourceIp,
        HashKey::Query(name) => HashSource::Query(name.as_str().into()),
    };
    vec![HashPolicy { source, terminal: false }]
}

fn rewrite_into(forward: &mut Forward, rewrite: &istio::Rewrite) {
    if let Some(uri) = &rewrite.uri {
        forward.path_rewrite = Some(PathRewrite::Prefix(uri.as_str().into()));
    }
    if let Some(substitution) = &rewrite.regex {
        forward.path_rewrite = Some(PathRewrite::Pattern(substitution.clone()));
    }
    if let Some(authority) = &rewrite.authority {
        forward.host_rewrite = Some(HostRewrite::Literal(authority.as_str().into()));
    }
}

/// The port that is written behind the host. One that goes without saying is not, where nothing
/// else can stand there: the host is given, or the caller's own host has that port or none.
fn written_port(redirect: &istio::Redirect, addressed: u16) -> Option<u16> {
    let port = match redirect.port {
        RedirectPort::Number(number) => number,
        RedirectPort::FromRequest => addressed,
        RedirectPort::FromProtocol | RedirectPort::Unsaid => return None,
    };
    let default = match redirect.scheme.as_deref() {
        Some("https") => 443,
        _ => 80,
    };
    let goes_without = port == default && (redirect.authority.is_some() || port == addressed);
    (!goes_without).then_some(port)
}

fn redirection(redirect: &istio::Redirect, port: u16) -> Redirect {
    Redirect {
        status: redirect.code,
        scheme: redirect.scheme.as_deref().map(Arc::from),
        host: redirect.authority.as_deref().map(Arc::from),
        port: written_port(redirect, port),
        path: redirect.uri.as_deref().map(|uri| RedirectPath::Full(uri.into())),
        strip_query: false,
    }
}

/// What a rule says about trying again; where it does not say after what, what is safe.
fn retry(context: &Context<'_>, retries: &Retries) -> Arc<RetryPolicy> {
    if retries.attempts == 0 {
        return Arc::new(RetryPolicy::new(RetryOn::NONE, 0));
    }
    let on = known(context, retries.on.unwrap_or(RetryOn::SAFE));
    let mut policy = RetryPolicy::new(on, retries.attempts);
    policy.retriable_status_codes = retries.statuses.clone();
    policy.per_try_timeout = retries.per_try;
    policy.other_host = retries.another_host.unwrap_or(true);
    policy.host_selection_attempts = HOST_SELECTION_ATTEMPTS;
    if let Some(backoff) = retries.backoff {
        policy.base_interval = backoff;
        policy.max_interval = backoff * 10;
    }
    Arc::new(policy)
}

/// One endpoint has no other: what is tried again between a sidecar and its application.
pub(super) fn inbound_retry(context: &Context<'_>) -> Arc<RetryPolicy> {
    let on = RetryOn::RESET_BEFORE_REQUEST
        .union(RetryOn::IDLE_CONNECTION_RESET)
        .union(RetryOn::REFUSED_STREAM);
    Arc::new(RetryPolicy::new(known(context, on), DEFAULT_RETRIES))
}
