//! What a route does.

use std::sync::Arc;
use std::time::Duration;

use tulle_model::origin::Origin;
use tulle_model::route::{
    ClusterChoice, DirectResponse, Forward, HashCookie, HashPolicy, HashSource, HostRewrite,
    PathRewrite, Priority, Redirect, RedirectPath, RouteAction, UpgradeSetting, WeightedCluster,
};
use tulle_model::tls::DataSource;

use super::edits::edits;
use super::http::overrides;
use super::value::{duration, header_name, limit, unless};
use super::{matcher, route, tls};
use crate::proto::envoy::config::core::v3::RoutingPriority;
use crate::proto::envoy::config::route::v3 as pb;

/// Envoy's default from the end of the request to the end of the response.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The action of a route.
pub fn action(action: &RouteAction) -> pb::route::Action {
    match action {
        RouteAction::Forward(action) => pb::route::Action::Route(forward(action)),
        RouteAction::Redirect(action) => pb::route::Action::Redirect(redirect(action)),
        RouteAction::DirectResponse(action) => {
            pb::route::Action::DirectResponse(direct_response(action))
        }
    }
}

/// The origins of weighted clusters, which have no metadata of their own.
pub fn cluster_origins(choice: &ClusterChoice) -> Vec<Option<&Origin>> {
    match choice {
        ClusterChoice::Cluster(_) | ClusterChoice::Header(_) => Vec::new(),
        ClusterChoice::Weighted(clusters) => {
            clusters.iter().map(|cluster| cluster.origin.as_ref()).collect()
        }
    }
}

fn forward(forward: &Forward) -> pb::RouteAction {
    use pb::route_action::{ClusterNotFoundResponseCode as NotFound, ClusterSpecifier};
    let Forward { cluster, cluster_not_found_status, path_rewrite, host_rewrite, .. } = forward;
    let Forward { append_x_forwarded_host, timeout, idle_timeout, retry, .. } = forward;
    let Forward { hash, upgrades, priority, max_stream_duration, .. } = forward;
    let specifier = match cluster {
        ClusterChoice::Cluster(name) => ClusterSpecifier::Cluster(name.to_string()),
        ClusterChoice::Header(name) => ClusterSpecifier::ClusterHeader(header_name(name)),
        ClusterChoice::Weighted(clusters) => {
            ClusterSpecifier::WeightedClusters(pb::WeightedCluster {
                clusters: clusters.iter().map(weighted).collect(),
                ..pb::WeightedCluster::default()
            })
        }
    };
    let not_found = match cluster_not_found_status {
        404 => NotFound::NotFound,
        500 => NotFound::InternalServerError,
        _ => NotFound::ServiceUnavailable,
    };
    let (prefix_rewrite, regex_rewrite) = match path_rewrite {
        None => (String::new(), None),
        Some(PathRewrite::Prefix(prefix)) => (prefix.to_string(), None),
        Some(PathRewrite::Pattern(pattern)) => {
            (String::new(), Some(matcher::substitution(pattern)))
        }
    };
    pb::RouteAction {
        cluster_specifier: Some(specifier),
        cluster_not_found_response_code: not_found.into(),
        prefix_rewrite,
        regex_rewrite,
        max_stream_duration: max_stream_duration.map(|limit| pb::route_action::MaxStreamDuration {
            max_stream_duration: Some(duration(limit)),
            ..pb::route_action::MaxStreamDuration::default()
        }),
        host_rewrite_specifier: host_rewrite.as_ref().map(self::host_rewrite),
        append_x_forwarded_host: *append_x_forwarded_host,
        timeout: limit(*timeout, Some(TIMEOUT)),
        idle_timeout: idle_timeout.map(duration),
        retry_policy: retry.as_deref().map(route::retry_policy),
        priority: match priority {
            Priority::Default => RoutingPriority::Default.into(),
            Priority::High => RoutingPriority::High.into(),
        },
        hash_policy: hash.iter().map(hash_policy).collect(),
        upgrade_configs: upgrades.iter().map(upgrade).collect(),
        ..pb::RouteAction::default()
    }
}

fn weighted(cluster: &WeightedCluster) -> pb::weighted_cluster::ClusterWeight {
    use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let WeightedCluster { name, weight, request_headers, response_headers, .. } = cluster;
    let (request_headers_to_add, request_headers_to_remove) = edits(request_headers);
    let (response_headers_to_add, response_headers_to_remove) = edits(response_headers);
    let rewrite = cluster.host_rewrite.as_ref();
    pb::weighted_cluster::ClusterWeight {
        name: name.to_string(),
        weight: Some(*weight),
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config: overrides(&cluster.overrides),
        host_rewrite_specifier: rewrite
            .map(|host| HostRewriteSpecifier::HostRewriteLiteral(host.to_string())),
        ..pb::weighted_cluster::ClusterWeight::default()
    }
}

fn host_rewrite(rewrite: &HostRewrite) -> pb::route_action::HostRewriteSpecifier {
    use pb::route_action::HostRewriteSpecifier as Kind;
    match rewrite {
        HostRewrite::Literal(host) => Kind::HostRewriteLiteral(host.to_string()),
        HostRewrite::Endpoint => Kind::AutoHostRewrite(true),
        HostRewrite::Header(name) => Kind::HostRewriteHeader(header_name(name)),
        HostRewrite::FromPath(pattern) => {
            Kind::HostRewritePathRegex(matcher::substitution(pattern))
        }
    }
}

fn hash_policy(policy: &HashPolicy) -> pb::route_action::HashPolicy {
    use pb::route_action::hash_policy as kind;
    let HashPolicy { source, terminal } = policy;
    let specifier = match source {
        HashSource::Header(name) => kind::PolicySpecifier::Header(kind::Header {
            header_name: header_name(name),
            regex_rewrite: None,
        }),
        HashSource::Cookie(cookie) => kind::PolicySpecifier::Cookie(hash_cookie(cookie)),
        HashSource::Query(name) => {
            kind::PolicySpecifier::QueryParameter(kind::QueryParameter { name: name.to_string() })
        }
        HashSource::SourceIp => {
            kind::PolicySpecifier::ConnectionProperties(kind::ConnectionProperties {
                source_ip: true,
            })
        }
    };
    pb::route_action::HashPolicy { terminal: *terminal, policy_specifier: Some(specifier) }
}

fn hash_cookie(cookie: &HashCookie) -> pb::route_action::hash_policy::Cookie {
    use pb::route_action::hash_policy::{Cookie, CookieAttribute};
    let HashCookie { name, ttl, path, attributes } = cookie;
    let attribute = |(name, value): &(Arc<str>, Arc<str>)| CookieAttribute {
        name: name.to_string(),
        value: value.to_string(),
    };
    Cookie {
        name: name.to_string(),
        ttl: ttl.map(duration),
        path: path.to_string(),
        attributes: attributes.iter().map(attribute).collect(),
    }
}

fn upgrade(upgrade: &UpgradeSetting) -> pb::route_action::UpgradeConfig {
    let UpgradeSetting { protocol, enabled } = upgrade;
    pb::route_action::UpgradeConfig {
        upgrade_type: protocol.to_string(),
        enabled: unless(*enabled, &true),
        connect_config: None,
    }
}

fn redirect(redirect: &Redirect) -> pb::RedirectAction {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let Redirect { status, scheme, host, port, path, strip_query } = redirect;
    let code = match status {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    let path = path.as_ref().map(|path| match path {
        RedirectPath::Full(path) => PathRewriteSpecifier::PathRedirect(path.to_string()),
        RedirectPath::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix.to_string()),
        RedirectPath::Pattern(pattern) => {
            PathRewriteSpecifier::RegexRewrite(matcher::substitution(pattern))
        }
    });
    pb::RedirectAction {
        host_redirect: host.as_deref().unwrap_or_default().to_owned(),
        port_redirect: port.unwrap_or_default().into(),
        response_code: code.into(),
        strip_query: *strip_query,
        scheme_rewrite_specifier: scheme
            .as_ref()
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_string())),
        path_rewrite_specifier: path,
    }
}

fn direct_response(response: &DirectResponse) -> pb::DirectResponseAction {
    let DirectResponse { status, body } = response;
    let body = (!body.is_empty()).then(|| tls::data_source(&DataSource::Inline(body.clone())));
    pb::DirectResponseAction { status: (*status).into(), body, body_format: None }
}
