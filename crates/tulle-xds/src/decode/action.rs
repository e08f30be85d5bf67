//! What a route does.

use std::sync::Arc;
use std::time::Duration;

use tulle_model::head::grammar::is_field_value;
use tulle_model::route::{
    ClusterChoice, DirectResponse, Forward, HashCookie, HashPolicy, HashSource, HostRewrite,
    PathRewrite, Priority, Redirect, RedirectPath, RouteAction, UpgradeSetting, WeightedCluster,
};
use tulle_model::tls::DataSource;

use super::metadata::Ours;
use super::value::{each, enumeration, header_name, limit, optional_duration, port};
use super::{edits, filter, matcher, retry, tls};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::core::v3::RoutingPriority;
use crate::proto::envoy::config::route::v3 as pb;
use crate::proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

/// Envoy's default from the end of the request to the end of the response.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The action of a route.
pub fn action(action: pb::route::Action, at: &At<'_>, ours: &Ours) -> Option<RouteAction> {
    match action {
        pb::route::Action::Route(message) => {
            forward(message, &at.field("route"), ours).map(RouteAction::Forward)
        }
        pb::route::Action::Redirect(message) => {
            redirect(message, &at.field("redirect")).map(RouteAction::Redirect)
        }
        pb::route::Action::DirectResponse(message) => {
            direct_response(message, &at.field("direct_response")).map(RouteAction::DirectResponse)
        }
        pb::route::Action::FilterAction(_) => {
            at.refuse::<pb::Route>("filter_action");
            None
        }
        pb::route::Action::NonForwardingAction(_) => {
            at.refuse::<pb::Route>("non_forwarding_action");
            None
        }
    }
}

fn forward(message: pb::RouteAction, at: &At<'_>, ours: &Ours) -> Option<Forward> {
    fields!(at, message => pb::RouteAction ["envoy.config.route.v3.RouteAction"] {
        used: cluster_not_found_response_code, prefix_rewrite, regex_rewrite,
            append_x_forwarded_host, timeout, idle_timeout, retry_policy, priority, hash_policy,
            upgrade_configs, cluster_specifier, host_rewrite_specifier, max_stream_duration;
        variants: cluster_specifier_plugin "choosing a cluster is not extended",
            inline_cluster_specifier_plugin "choosing a cluster is not extended",
            host_rewrite "use `host_rewrite_literal`";
        refused: metadata_match "endpoints are not chosen by metadata",
            path_rewrite_policy "rewriting is not extended",
            path_rewrite "use `prefix_rewrite` or `regex_rewrite`",
            request_mirror_policies "requests are not mirrored",
            hedge_policy "an attempt follows the one before it",
            internal_redirect_policy "redirects are passed to the caller",
            internal_redirect_action "redirects are passed to the caller" unless 0;
        warned: flush_timeout "`idle_timeout` counts", early_data_policy "there is no early data",
            retry_policy_typed_config "write `retry_policy`",
            rate_limits "there is no rate limit filter",
            include_vh_rate_limits "there is no rate limit filter", cors "there is no CORS filter",
            max_grpc_timeout "`timeout` counts", grpc_timeout_offset "`timeout` counts",
            max_internal_redirects "redirects are passed to the caller";
    });
    use pb::route_action::ClusterNotFoundResponseCode as NotFound;
    let name = "cluster_not_found_response_code";
    let cluster_not_found_status = match enumeration(cluster_not_found_response_code, at, name)? {
        NotFound::ServiceUnavailable => 503,
        NotFound::NotFound => 404,
        NotFound::InternalServerError => 500,
    };
    let priority = match enumeration(priority, at, "priority")? {
        RoutingPriority::Default => Priority::Default,
        RoutingPriority::High => Priority::High,
    };
    Some(Forward {
        cluster: cluster(cluster_specifier, at, ours)?,
        cluster_not_found_status,
        path_rewrite: rewrite(prefix_rewrite, regex_rewrite, at),
        host_rewrite: host_rewrite(host_rewrite_specifier, at),
        append_x_forwarded_host,
        timeout: limit(timeout, Some(TIMEOUT), at, "timeout"),
        // Zero is kept: it switches the manager's limit off.
        idle_timeout: optional_duration(idle_timeout, at, "idle_timeout"),
        max_stream_duration: max_stream_duration
            .and_then(|message| stream_duration(message, &at.field("max_stream_duration"))),
        retry: retry_policy
            .and_then(|message| retry::policy(message, &at.field("retry_policy")))
            .map(Arc::new),
        hash: each(at, "hash_policy", hash_policy, hash_policy_of),
        upgrades: each(at, "upgrade_configs", upgrade_configs, upgrade),
        priority,
        body_buffer_bytes: None,
    })
}

/// Zero is kept: it switches the manager's limit off.
fn stream_duration(message: pb::route_action::MaxStreamDuration, at: &At<'_>) -> Option<Duration> {
    fields!(at, message => pb::route_action::MaxStreamDuration
        ["envoy.config.route.v3.RouteAction.MaxStreamDuration"] {
        used: max_stream_duration;
        warned: grpc_timeout_header_max "`grpc-timeout` is for the upstream",
            grpc_timeout_header_offset "`grpc-timeout` is for the upstream";
    });
    optional_duration(max_stream_duration, at, "max_stream_duration")
}

fn cluster(
    specifier: Option<pb::route_action::ClusterSpecifier>,
    at: &At<'_>,
    ours: &Ours,
) -> Option<ClusterChoice> {
    use pb::route_action::ClusterSpecifier as Kind;
    match specifier {
        Some(Kind::Cluster(name)) if name.is_empty() => at.field("cluster").fail("is empty"),
        Some(Kind::Cluster(name)) => Some(ClusterChoice::Cluster(name.into())),
        Some(Kind::ClusterHeader(name)) => {
            header_name(&name, &at.field("cluster_header")).map(ClusterChoice::Header)
        }
        Some(Kind::WeightedClusters(message)) => {
            weighted(message, &at.field("weighted_clusters"), ours)
        }
        Some(Kind::ClusterSpecifierPlugin(_)) => {
            at.refuse::<pb::RouteAction>("cluster_specifier_plugin");
            None
        }
        Some(Kind::InlineClusterSpecifierPlugin(_)) => {
            at.refuse::<pb::RouteAction>("inline_cluster_specifier_plugin");
            None
        }
        None => at.field("cluster").fail("is missing"),
    }
}

fn weighted(message: pb::WeightedCluster, at: &At<'_>, ours: &Ours) -> Option<ClusterChoice> {
    fields!(at, message => pb::WeightedCluster ["envoy.config.route.v3.WeightedCluster"] {
        used: clusters, random_value_specifier;
        variants: header_name "the choice is random", use_hash_policy "the choice is random";
        warned: total_weight "the total is the sum", runtime_key_prefix "there is no runtime";
    });
    match random_value_specifier {
        Some(pb::weighted_cluster::RandomValueSpecifier::HeaderName(_)) => {
            at.refuse::<pb::WeightedCluster>("header_name");
        }
        Some(pb::weighted_cluster::RandomValueSpecifier::UseHashPolicy(true)) => {
            at.refuse::<pb::WeightedCluster>("use_hash_policy");
        }
        Some(pb::weighted_cluster::RandomValueSpecifier::UseHashPolicy(false)) | None => {}
    }
    let mut clusters = each(at, "clusters", clusters, cluster_weight);
    for (index, cluster) in clusters.iter_mut().enumerate() {
        cluster.origin = ours.part_origin(index);
    }
    let total = clusters.iter().try_fold(0u32, |sum, cluster| sum.checked_add(cluster.weight));
    match total {
        Some(0) => at.field("clusters").fail("the sum of all weights is zero"),
        None => at.field("clusters").fail("the sum of all weights is more than 4294967295"),
        Some(_) => Some(ClusterChoice::Weighted(clusters.into())),
    }
}

fn cluster_weight(
    message: pb::weighted_cluster::ClusterWeight,
    at: &At<'_>,
) -> Option<WeightedCluster> {
    use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    fields!(at, message => pb::weighted_cluster::ClusterWeight
        ["envoy.config.route.v3.WeightedCluster.ClusterWeight"] {
        used: name, weight, request_headers_to_add, request_headers_to_remove,
            response_headers_to_add, response_headers_to_remove, typed_per_filter_config,
            host_rewrite_specifier;
        refused: cluster_header "name the cluster",
            metadata_match "endpoints are not chosen by metadata";
    });
    if name.is_empty() {
        return at.field("name").fail("is missing");
    }
    let Some(weight) = weight else {
        return at.field("weight").fail("is missing");
    };
    Some(WeightedCluster {
        name: name.into(),
        weight,
        request_headers: edits::request(request_headers_to_add, request_headers_to_remove, at),
        response_headers: edits::response(response_headers_to_add, response_headers_to_remove, at),
        host_rewrite: host_rewrite_specifier
            .map(|HostRewriteSpecifier::HostRewriteLiteral(host)| host.into()),
        overrides: filter::overrides(typed_per_filter_config, at),
        origin: None,
    })
}

fn rewrite(
    prefix: String,
    pattern: Option<RegexMatchAndSubstitute>,
    at: &At<'_>,
) -> Option<PathRewrite> {
    match (prefix.is_empty(), pattern) {
        (true, None) => None,
        (false, None) => Some(PathRewrite::Prefix(prefix.into())),
        (true, Some(message)) => {
            matcher::substitution(message, &at.field("regex_rewrite")).map(PathRewrite::Pattern)
        }
        (false, Some(_)) => {
            at.field("regex_rewrite").fail("cannot be set together with `prefix_rewrite`")
        }
    }
}

fn host_rewrite(
    specifier: Option<pb::route_action::HostRewriteSpecifier>,
    at: &At<'_>,
) -> Option<HostRewrite> {
    use pb::route_action::HostRewriteSpecifier as Kind;
    match specifier? {
        Kind::HostRewriteLiteral(host) => Some(HostRewrite::Literal(host.into())),
        Kind::AutoHostRewrite(on) => on.then_some(HostRewrite::Endpoint),
        Kind::HostRewriteHeader(name) => {
            header_name(&name, &at.field("host_rewrite_header")).map(HostRewrite::Header)
        }
        Kind::HostRewritePathRegex(message) => {
            let at = at.field("host_rewrite_path_regex");
            matcher::substitution(message, &at).map(HostRewrite::FromPath)
        }
        Kind::HostRewrite(_) => {
            at.refuse::<pb::RouteAction>("host_rewrite");
            None
        }
    }
}

fn hash_policy_of(message: pb::route_action::HashPolicy, at: &At<'_>) -> Option<HashPolicy> {
    use pb::route_action::hash_policy as kind;
    fields!(at, message => pb::route_action::HashPolicy
        ["envoy.config.route.v3.RouteAction.HashPolicy"] {
        used: terminal, policy_specifier;
        variants: filter_state "there is no filter state";
    });
    let source = match policy_specifier {
        Some(kind::PolicySpecifier::Header(message)) => {
            let at = at.field("header");
            fields!(at, message => kind::Header
                ["envoy.config.route.v3.RouteAction.HashPolicy.Header"] {
                used: header_name;
                refused: regex_rewrite "the value is hashed as it is";
            });
            HashSource::Header(self::header_name(&header_name, &at.field("header_name"))?)
        }
        Some(kind::PolicySpecifier::Cookie(message)) => cookie(message, &at.field("cookie"))?,
        Some(kind::PolicySpecifier::ConnectionProperties(message)) => {
            let at = at.field("connection_properties");
            fields!(at, message => kind::ConnectionProperties
                ["envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties"] {
                used: source_ip;
            });
            if !source_ip {
                return at.field("source_ip").fail("has to be true");
            }
            HashSource::SourceIp
        }
        Some(kind::PolicySpecifier::QueryParameter(message)) => {
            let at = at.field("query_parameter");
            fields!(at, message => kind::QueryParameter
                ["envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter"] { used: name; });
            HashSource::Query(name.into())
        }
        Some(kind::PolicySpecifier::FilterState(_)) => {
            at.refuse::<pb::route_action::HashPolicy>("filter_state");
            return None;
        }
        None => return at.fail("says nothing to hash"),
    };
    Some(HashPolicy { source, terminal })
}

fn cookie(message: pb::route_action::hash_policy::Cookie, at: &At<'_>) -> Option<HashSource> {
    fields!(at, message => pb::route_action::hash_policy::Cookie
        ["envoy.config.route.v3.RouteAction.HashPolicy.Cookie"] {
        used: name, ttl, path, attributes;
    });
    if name.is_empty() {
        return at.field("name").fail("is missing");
    }
    let cookie = HashCookie {
        name: cookie_text(name, at, "name")?,
        ttl: optional_duration(ttl, at, "ttl"),
        path: cookie_text(path, at, "path")?,
        attributes: each(at, "attributes", attributes, cookie_attribute),
    };
    Some(HashSource::Cookie(cookie))
}

fn cookie_attribute(
    message: pb::route_action::hash_policy::CookieAttribute,
    at: &At<'_>,
) -> Option<(Arc<str>, Arc<str>)> {
    fields!(at, message => pb::route_action::hash_policy::CookieAttribute
        ["envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute"] { used: name, value; });
    if name.is_empty() {
        return at.field("name").fail("is missing");
    }
    Some((cookie_text(name, at, "name")?, cookie_text(value, at, "value")?))
}

/// A part of `set-cookie`.
fn cookie_text(text: String, at: &At<'_>, name: &str) -> Option<Arc<str>> {
    if !is_field_value(text.as_bytes()) {
        return at.field(name).fail("holds a control character, which no header may hold");
    }
    Some(text.into())
}

fn upgrade(message: pb::route_action::UpgradeConfig, at: &At<'_>) -> Option<UpgradeSetting> {
    fields!(at, message => pb::route_action::UpgradeConfig
        ["envoy.config.route.v3.RouteAction.UpgradeConfig"] {
        used: upgrade_type, enabled;
        refused: connect_config "CONNECT is forwarded, not ended here";
    });
    if upgrade_type.is_empty() {
        return at.field("upgrade_type").fail("is missing");
    }
    let protocol = upgrade_type.to_ascii_lowercase().into();
    Some(UpgradeSetting { protocol, enabled: enabled.unwrap_or(true) })
}

fn redirect(message: pb::RedirectAction, at: &At<'_>) -> Option<Redirect> {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    fields!(at, message => pb::RedirectAction ["envoy.config.route.v3.RedirectAction"] {
        used: host_redirect, port_redirect, response_code, strip_query, scheme_rewrite_specifier,
            path_rewrite_specifier;
        variants: path_rewrite "use `path_redirect`";
    });
    let status = match enumeration(response_code, at, "response_code")? {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
    };
    let scheme = match scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.into()),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let path = match path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) => Some(RedirectPath::Full(path.into())),
        Some(PathRewriteSpecifier::PrefixRewrite(path)) => Some(RedirectPath::Prefix(path.into())),
        Some(PathRewriteSpecifier::RegexRewrite(message)) => {
            let pattern = matcher::substitution(message, &at.field("regex_rewrite"))?;
            Some(RedirectPath::Pattern(pattern))
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            at.refuse::<pb::RedirectAction>("path_rewrite");
            return None;
        }
        None => None,
    };
    let port = match port_redirect {
        0 => None,
        number => Some(port(number, &at.field("port_redirect"))?),
    };
    let host = (!host_redirect.is_empty()).then(|| host_redirect.into());
    Some(Redirect { status, scheme, host, port, path, strip_query })
}

fn direct_response(message: pb::DirectResponseAction, at: &At<'_>) -> Option<DirectResponse> {
    fields!(at, message => pb::DirectResponseAction
        ["envoy.config.route.v3.DirectResponseAction"] {
        used: status, body;
        warned: body_format "the body is sent as it is";
    });
    let Some(status) = u16::try_from(status).ok().filter(|code| (200..600).contains(code)) else {
        return at.field("status").fail("has to be between 200 and 599");
    };
    let body = match body.map(|body| tls::data_source(body, &at.field("body"))) {
        None => Arc::from([]),
        Some(Some(DataSource::Inline(bytes))) => bytes,
        Some(Some(DataSource::File(_))) => {
            return at.field("body").fail("write the text in place, as `inline_string`");
        }
        Some(None) => return None,
    };
    Some(DirectResponse { status, body })
}
