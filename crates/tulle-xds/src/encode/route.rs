//! Route configurations.

use tulle_model::matcher::PathMatch;
use tulle_model::retry::RetryPolicy;
use tulle_model::route::{
    Route, RouteAction, RouteConfiguration, RouteMatch, TlsRequirement, VirtualHost,
};

use super::edits::edits;
use super::http::overrides;
use super::metadata::Ours;
use super::value::{duration, runtime_fraction, unless};
use super::{action, matcher};
use crate::proto::envoy::config::route::v3 as pb;
use crate::proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use crate::proto::pack;

/// One route configuration.
pub fn configuration(routes: &RouteConfiguration) -> pb::RouteConfiguration {
    let RouteConfiguration {
        name,
        virtual_hosts,
        domains: _,
        request_headers,
        response_headers,
        ignore_port_in_host_matching,
        most_specific_header_mutations_wins,
        origin,
    } = routes;
    let (request_headers_to_add, request_headers_to_remove) = edits(request_headers);
    let (response_headers_to_add, response_headers_to_remove) = edits(response_headers);
    pb::RouteConfiguration {
        name: name.to_string(),
        virtual_hosts: virtual_hosts.iter().map(|host| virtual_host(host)).collect(),
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        most_specific_header_mutations_wins: *most_specific_header_mutations_wins,
        ignore_port_in_host_matching: *ignore_port_in_host_matching,
        metadata: Ours::of(origin.as_ref()).metadata(),
        ..pb::RouteConfiguration::default()
    }
}

fn virtual_host(host: &VirtualHost) -> pb::VirtualHost {
    use pb::virtual_host::TlsRequirementType;
    let VirtualHost { name, domains, routes, require_tls, request_headers, .. } = host;
    let VirtualHost { response_headers, retry, include_request_attempt_count, .. } = host;
    let VirtualHost { include_attempt_count_in_response, overrides, origin, .. } = host;
    let (request_headers_to_add, request_headers_to_remove) = edits(request_headers);
    let (response_headers_to_add, response_headers_to_remove) = edits(response_headers);
    let require_tls = match require_tls {
        TlsRequirement::None => TlsRequirementType::None,
        TlsRequirement::ExternalOnly => TlsRequirementType::ExternalOnly,
        TlsRequirement::All => TlsRequirementType::All,
    };
    pb::VirtualHost {
        name: name.to_string(),
        domains: super::value::owned(domains),
        routes: routes.iter().map(|route| self::route(route)).collect(),
        require_tls: require_tls.into(),
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config: super::http::overrides(overrides),
        include_request_attempt_count: *include_request_attempt_count,
        include_attempt_count_in_response: *include_attempt_count_in_response,
        retry_policy: retry.as_deref().map(retry_policy),
        metadata: Ours::of(origin.as_ref()).metadata(),
        ..pb::VirtualHost::default()
    }
}

fn route(route: &Route) -> pb::Route {
    let Route { name, matches, action, request_headers, response_headers, .. } = route;
    let (request_headers_to_add, request_headers_to_remove) = edits(request_headers);
    let (response_headers_to_add, response_headers_to_remove) = edits(response_headers);
    let parts = match action {
        RouteAction::Forward(forward) => action::cluster_origins(&forward.cluster),
        RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => Vec::new(),
    };
    pb::Route {
        name: name.to_string(),
        r#match: Some(route_match(matches)),
        metadata: Ours::of(route.origin.as_ref()).parts(parts.into_iter()).metadata(),
        typed_per_filter_config: overrides(&route.overrides),
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        request_body_buffer_limit: match action {
            RouteAction::Forward(forward) => forward.body_buffer_bytes,
            RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
        },
        action: Some(action::action(action)),
        ..pb::Route::default()
    }
}

fn route_match(matches: &RouteMatch) -> pb::RouteMatch {
    use pb::route_match::{ConnectMatcher, GrpcRouteMatchOptions, PathSpecifier};
    let RouteMatch { path, ignore_case, headers, query, fraction, grpc_only } = matches;
    let path = match path {
        PathMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.to_string()),
        PathMatch::Exact(exact) => PathSpecifier::Path(exact.to_string()),
        PathMatch::PathSeparatedPrefix(prefix) => {
            PathSpecifier::PathSeparatedPrefix(prefix.to_string())
        }
        PathMatch::Pattern(pattern) => PathSpecifier::SafeRegex(matcher::pattern(pattern)),
        PathMatch::Connect => PathSpecifier::ConnectMatcher(ConnectMatcher {}),
    };
    pb::RouteMatch {
        case_sensitive: ignore_case.then_some(false),
        runtime_fraction: fraction.map(runtime_fraction),
        headers: headers.iter().map(matcher::header).collect(),
        query_parameters: query.iter().map(matcher::query).collect(),
        grpc: grpc_only.then_some(GrpcRouteMatchOptions {}),
        path_specifier: Some(path),
        ..pb::RouteMatch::default()
    }
}

/// Retries.
pub fn retry_policy(policy: &RetryPolicy) -> pb::RetryPolicy {
    use pb::retry_policy::retry_host_predicate::ConfigType;
    use pb::retry_policy::{RetryBackOff, RetryHostPredicate};
    let RetryPolicy { on, max_retries, per_try_timeout, retriable_status_codes, .. } = policy;
    let RetryPolicy { retriable_headers, base_interval, max_interval, other_host, .. } = policy;
    let default = (RetryPolicy::BASE_INTERVAL, RetryPolicy::BASE_INTERVAL * 10);
    let back_off = unless((*base_interval, *max_interval), &default);
    let other_host = other_host.then(|| RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack(&PreviousHostsPredicate {}))),
    });
    pb::RetryPolicy {
        retry_on: on.to_string(),
        num_retries: Some(*max_retries),
        per_try_timeout: per_try_timeout.map(duration),
        retry_host_predicate: other_host.into_iter().collect(),
        host_selection_retry_max_attempts: match policy.host_selection_attempts {
            1 => 0,
            attempts => attempts.into(),
        },
        retriable_status_codes: retriable_status_codes.iter().copied().map(u32::from).collect(),
        retry_back_off: back_off.map(|(base, longest)| RetryBackOff {
            base_interval: Some(duration(base)),
            max_interval: Some(duration(longest)),
        }),
        retriable_headers: retriable_headers.iter().map(matcher::header).collect(),
        ..pb::RetryPolicy::default()
    }
}
