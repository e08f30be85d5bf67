//! Route configurations, virtual hosts, and which requests a route takes.

use std::sync::Arc;

use tulle_model::matcher::PathMatch;
use tulle_model::route::{
    DomainTable, Route, RouteAction, RouteConfiguration, RouteMatch, TlsRequirement, VirtualHost,
};

use super::metadata::Ours;
use super::value::{each, enumeration, runtime_fraction};
use super::{action, edits, filter, matcher, retry};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::route::v3 as pb;

/// One route configuration.
pub fn configuration(message: pb::RouteConfiguration, at: &At<'_>) -> Option<RouteConfiguration> {
    fields!(at, message => pb::RouteConfiguration ["envoy.config.route.v3.RouteConfiguration"] {
        used: name, virtual_hosts, response_headers_to_add, response_headers_to_remove,
            request_headers_to_add, request_headers_to_remove,
            most_specific_header_mutations_wins, ignore_port_in_host_matching, metadata;
        refused: vhds "virtual hosts are not discovered",
            internal_only_headers "headers are removed by `request_headers_to_remove`",
            cluster_specifier_plugins "choosing a cluster is not extended",
            request_mirror_policies "requests are not mirrored",
            vhost_header "the authority chooses the virtual host",
            ignore_path_parameters_in_path_matching "path parameters are part of the path",
            typed_per_filter_config "write it in the virtual hosts",
            route_specifiers "routes are not extended";
        warned: validate_clusters "a cluster that is not there is answered with 503 or 404",
            max_direct_response_body_size_bytes "the size of a resource is the limit";
    });
    let virtual_hosts = each(at, "virtual_hosts", virtual_hosts, virtual_host);
    let domains = match DomainTable::new(&virtual_hosts) {
        Ok(domains) => domains,
        Err(domain) => {
            return at.field("virtual_hosts").fail(format!("two of them claim `{domain}`"));
        }
    };
    Some(RouteConfiguration {
        name: name.into(),
        virtual_hosts,
        domains,
        request_headers: edits::request(request_headers_to_add, request_headers_to_remove, at),
        response_headers: edits::response(response_headers_to_add, response_headers_to_remove, at),
        ignore_port_in_host_matching,
        most_specific_header_mutations_wins,
        origin: Ours::of(metadata, at).origin(),
    })
}

fn virtual_host(message: pb::VirtualHost, at: &At<'_>) -> Option<Arc<VirtualHost>> {
    fields!(at, message => pb::VirtualHost ["envoy.config.route.v3.VirtualHost"] {
        used: name, domains, routes, require_tls, request_headers_to_add,
            request_headers_to_remove, response_headers_to_add, response_headers_to_remove,
            typed_per_filter_config, include_request_attempt_count,
            include_attempt_count_in_response, retry_policy, metadata,
            per_request_buffer_limit_bytes, request_body_buffer_limit;
        refused: matcher "write `routes`", request_mirror_policies "requests are not mirrored",
            hedge_policy "an attempt follows the one before it",
            route_specifiers "routes are not extended";
        warned: virtual_clusters "counters are kept for clusters",
            rate_limits "there is no rate limit filter", cors "there is no CORS filter",
            retry_policy_typed_config "write `retry_policy`",
            include_is_timeout_retry_header "`x-envoy-is-timeout-retry` is not written";
    });
    if domains.is_empty() {
        at.field("domains").error("a virtual host needs a domain");
    }
    let body_limit = request_body_buffer_limit.or(per_request_buffer_limit_bytes.map(u64::from));
    Some(Arc::new(VirtualHost {
        name: name.into(),
        domains: each(at, "domains", domains, domain),
        routes: each(at, "routes", routes, |message, at| route(message, body_limit, at)),
        require_tls: match enumeration(require_tls, at, "require_tls")? {
            pb::virtual_host::TlsRequirementType::None => TlsRequirement::None,
            pb::virtual_host::TlsRequirementType::ExternalOnly => TlsRequirement::ExternalOnly,
            pb::virtual_host::TlsRequirementType::All => TlsRequirement::All,
        },
        request_headers: edits::request(request_headers_to_add, request_headers_to_remove, at),
        response_headers: edits::response(response_headers_to_add, response_headers_to_remove, at),
        retry: retry_policy
            .and_then(|message| retry::policy(message, &at.field("retry_policy")))
            .map(Arc::new),
        include_request_attempt_count,
        include_attempt_count_in_response,
        overrides: filter::overrides(typed_per_filter_config, at),
        origin: Ours::of(metadata, at).origin(),
    }))
}

/// Exact, `*.suffix` or `-suffix`, `prefix.*`, or `*`.
fn domain(domain: String, at: &At<'_>) -> Option<Arc<str>> {
    let inside = match domain.strip_prefix('*') {
        Some(suffix) => suffix,
        None => domain.strip_suffix('*').unwrap_or(&domain),
    };
    if domain.is_empty() || inside.contains('*') {
        return at.fail(format!("`{domain}` has to have one `*`, at its beginning or end"));
    }
    Some(domain.into())
}

/// One route; `host_limit` is the virtual host's limit of a body that is held.
fn route(message: pb::Route, host_limit: Option<u64>, at: &At<'_>) -> Option<Arc<Route>> {
    fields!(at, message => pb::Route ["envoy.config.route.v3.Route"] {
        used: name, r#match, metadata, typed_per_filter_config, request_headers_to_add,
            request_headers_to_remove, response_headers_to_add, response_headers_to_remove,
            action, per_request_buffer_limit_bytes, request_body_buffer_limit;
        variants: filter_action "filters do not answer for routes",
            non_forwarding_action "a proxy forwards";
        refused: route_specifiers "routes are not extended";
        warned: decorator "there are no spans yet", tracing "there are no spans yet",
            stat_prefix "counters are kept for clusters";
    });
    let ours = Ours::of(metadata, at);
    let matches = match r#match {
        Some(message) => route_match(message, &at.field("match")),
        None => at.field("match").fail("is missing"),
    };
    let action = match action {
        Some(action) => action::action(action, at, &ours),
        None => at.fail("says nothing to do: `route`, `redirect` or `direct_response`"),
    };
    let own_limit = request_body_buffer_limit.or(per_request_buffer_limit_bytes.map(u64::from));
    let mut action = action?;
    if let RouteAction::Forward(forward) = &mut action {
        forward.body_buffer_bytes = own_limit.or(host_limit);
    }
    Some(Arc::new(Route {
        name: name.into(),
        matches: matches?,
        action,
        request_headers: edits::request(request_headers_to_add, request_headers_to_remove, at),
        response_headers: edits::response(response_headers_to_add, response_headers_to_remove, at),
        overrides: filter::overrides(typed_per_filter_config, at),
        origin: ours.origin(),
    }))
}

fn route_match(message: pb::RouteMatch, at: &At<'_>) -> Option<RouteMatch> {
    fields!(at, message => pb::RouteMatch ["envoy.config.route.v3.RouteMatch"] {
        used: case_sensitive, runtime_fraction, headers, query_parameters, grpc, path_specifier;
        variants: path_match_policy "matching is not extended";
        refused: cookies "match the header `cookie`",
            tls_context "routes do not look at certificates",
            dynamic_metadata "routes do not look at metadata",
            filter_state "there is no filter state";
    });
    if let Some(message) = grpc {
        let at = at.field("grpc");
        fields!(at, message => pb::route_match::GrpcRouteMatchOptions
            ["envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions"] {});
    }
    let fraction = match runtime_fraction {
        Some(message) => Some(self::runtime_fraction(message, &at.field("runtime_fraction"))?),
        None => None,
    };
    let headers = each(at, "headers", headers, matcher::header);
    let query = each(at, "query_parameters", query_parameters, matcher::query);
    Some(RouteMatch {
        path: path(path_specifier, at)?,
        ignore_case: case_sensitive == Some(false),
        headers,
        query,
        fraction,
        grpc_only: grpc.is_some(),
    })
}

fn path(specifier: Option<pb::route_match::PathSpecifier>, at: &At<'_>) -> Option<PathMatch> {
    use pb::route_match::PathSpecifier as Kind;
    Some(match specifier {
        Some(Kind::Prefix(prefix)) => PathMatch::Prefix(prefix.into()),
        Some(Kind::Path(exact)) => PathMatch::Exact(exact.into()),
        Some(Kind::SafeRegex(regex)) => {
            PathMatch::Pattern(matcher::pattern(regex, &at.field("safe_regex"))?)
        }
        Some(Kind::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                let text = "has to begin with `/`, not end with it, and have no `?` or `#`";
                return at.field("path_separated_prefix").fail(text);
            }
            PathMatch::PathSeparatedPrefix(prefix.into())
        }
        Some(Kind::ConnectMatcher(message)) => {
            let at = at.field("connect_matcher");
            fields!(at, message => pb::route_match::ConnectMatcher
                ["envoy.config.route.v3.RouteMatch.ConnectMatcher"] {});
            PathMatch::Connect
        }
        Some(Kind::PathMatchPolicy(_)) => {
            at.refuse::<pb::RouteMatch>("path_match_policy");
            return None;
        }
        None => return at.fail("says nothing about the path"),
    })
}
