//! Route configurations: virtual hosts, routes and what a route does.
//!
//! Reference: `envoy.config.route.v3`. How one is chosen is in [`crate::decide::route`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::head::HeaderName;
use crate::header_edit::HeaderEdits;
use crate::http::FilterOverride;
use crate::matcher::{Fraction, HeaderMatch, PathMatch, QueryMatch, Substitution};
use crate::name::{ClusterName, RouteConfigName};
use crate::origin::Origin;
use crate::retry::RetryPolicy;

/// One route configuration (RDS).
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfiguration {
    /// Its name.
    pub name: RouteConfigName,
    /// Virtual hosts, in order.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Which virtual host answers for which host.
    pub domains: DomainTable,
    /// Edits for every request.
    pub request_headers: HeaderEdits,
    /// Edits for every response.
    pub response_headers: HeaderEdits,
    /// The port of the authority does not take part in choosing a virtual host.
    pub ignore_port_in_host_matching: bool,
    /// Edits of the configuration are applied before those of the route, not after.
    pub most_specific_header_mutations_wins: bool,
    /// What it was made from.
    pub origin: Option<Origin>,
}

/// Which virtual host a domain belongs to. Domains are lower-case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainTable {
    exact: HashMap<Arc<str>, usize>,
    /// `*.example.com` as `.example.com`, longest first.
    suffixes: Vec<(Arc<str>, usize)>,
    /// `example.*` as `example.`, longest first.
    prefixes: Vec<(Arc<str>, usize)>,
    catch_all: Option<usize>,
}

impl DomainTable {
    /// The table for `virtual_hosts`.
    ///
    /// # Errors
    /// The domain that two virtual hosts claim.
    pub fn new(virtual_hosts: &[Arc<VirtualHost>]) -> Result<Self, Arc<str>> {
        let mut table = Self::default();
        for (index, host) in virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                let lower: Arc<str> = domain.to_ascii_lowercase().into();
                if !table.add(&lower, index) {
                    return Err(lower);
                }
            }
        }
        table.suffixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        table.prefixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Ok(table)
    }

    fn add(&mut self, domain: &Arc<str>, index: usize) -> bool {
        let list = if &**domain == "*" {
            return self.catch_all.replace(index).is_none();
        } else if let Some(suffix) = domain.strip_prefix('*') {
            (&mut self.suffixes, suffix)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (&mut self.prefixes, prefix)
        } else {
            return self.exact.insert(Arc::clone(domain), index).is_none();
        };
        let (list, text) = list;
        let fresh = list.iter().all(|(other, _)| &**other != text);
        list.push((text.into(), index));
        fresh
    }

    /// The index of the virtual host for `host` (lower-case), in Envoy's order: exact, longest
    /// suffix, longest prefix, `*`. A wildcard stands for at least one character.
    #[must_use]
    pub fn find(&self, host: &str) -> Option<usize> {
        let longer = |text: &Arc<str>| host.len() > text.len();
        let suffix = |(text, _): &&(Arc<str>, usize)| longer(text) && host.ends_with(&**text);
        let prefix = |(text, _): &&(Arc<str>, usize)| longer(text) && host.starts_with(&**text);
        let listed = || {
            let suffixed = self.suffixes.iter().find(suffix);
            suffixed.or_else(|| self.prefixes.iter().find(prefix)).map(|(_, index)| *index)
        };
        self.exact.get(host).copied().or_else(listed).or(self.catch_all)
    }
}

/// A set of domains and the routes under them.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// Its name, for people.
    pub name: Arc<str>,
    /// Domains as written: exact, `*.suffix`, `prefix.*`, `*`.
    pub domains: Vec<Arc<str>>,
    /// Routes; the first that matches is taken.
    pub routes: Vec<Arc<Route>>,
    /// Whether plain text is redirected to TLS.
    pub require_tls: TlsRequirement,
    /// Edits for requests under this host.
    pub request_headers: HeaderEdits,
    /// Edits for responses under this host.
    pub response_headers: HeaderEdits,
    /// Retries of routes that have no policy of their own.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Whether `x-envoy-attempt-count` is added to requests.
    pub include_request_attempt_count: bool,
    /// Whether `x-envoy-attempt-count` is added to responses.
    pub include_attempt_count_in_response: bool,
    /// Filter settings for requests under this host, by filter name.
    pub overrides: Vec<FilterOverride>,
    /// What it was made from.
    pub origin: Option<Origin>,
}

/// Which requests must come over TLS (`VirtualHost.TlsRequirementType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsRequirement {
    /// None.
    #[default]
    None,
    /// Those from outside (by `x-forwarded-for`).
    ExternalOnly,
    /// All.
    All,
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name, empty for none.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub matches: RouteMatch,
    /// What it does with them.
    pub action: RouteAction,
    /// Edits for its requests.
    pub request_headers: HeaderEdits,
    /// Edits for its responses.
    pub response_headers: HeaderEdits,
    /// Filter settings for its requests, by filter name.
    pub overrides: Vec<FilterOverride>,
    /// What it was made from.
    pub origin: Option<Origin>,
}

/// Which requests a route takes; all parts must match.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// The path without its query.
    pub path: PathMatch,
    /// Whether the path is compared without regard to case.
    pub ignore_case: bool,
    /// Headers.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters.
    pub query: Vec<QueryMatch>,
    /// The share of requests that may match.
    pub fraction: Option<Fraction>,
    /// Only gRPC requests.
    pub grpc_only: bool,
}

impl RouteMatch {
    /// Every request whose path begins so.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        Self {
            path: PathMatch::Prefix(prefix.into()),
            ignore_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            fraction: None,
            grpc_only: false,
        }
    }
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// Sends the request on.
    Forward(Forward),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers by itself.
    DirectResponse(DirectResponse),
}

/// Sends a request on (`RouteAction` of Envoy).
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// To which cluster.
    pub cluster: ClusterChoice,
    /// What is answered when that cluster is not there: 503 or 404.
    pub cluster_not_found_status: u16,
    /// What becomes of the path.
    pub path_rewrite: Option<PathRewrite>,
    /// What becomes of the authority.
    pub host_rewrite: Option<HostRewrite>,
    /// Whether the original host is appended to `x-forwarded-host` when it is rewritten.
    pub append_x_forwarded_host: bool,
    /// From the end of the request to the end of the response; `None` never.
    pub timeout: Option<Duration>,
    /// Longest silence of the stream; `None` as the connection manager says.
    pub idle_timeout: Option<Duration>,
    /// Longest life of the stream; zero never ends it, `None` is as the connection manager says.
    pub max_stream_duration: Option<Duration>,
    /// Retries; `None` as the virtual host says.
    pub retry: Option<Arc<RetryPolicy>>,
    /// What the load balancer hashes, first that is terminal wins.
    pub hash: Vec<HashPolicy>,
    /// Upgrades allowed here beside or against those of the connection manager.
    pub upgrades: Vec<UpgradeSetting>,
    /// Which circuit-breaker limits count.
    pub priority: Priority,
    /// Bytes of a request body that are held to be sent again (`request_body_buffer_limit`);
    /// `None` as the proxy does by default.
    pub body_buffer_bytes: Option<u64>,
}

impl Forward {
    /// To one cluster with Envoy's defaults (15 s timeout).
    #[must_use]
    pub fn to(cluster: ClusterName) -> Self {
        Self {
            cluster: ClusterChoice::Cluster(cluster),
            cluster_not_found_status: 503,
            path_rewrite: None,
            host_rewrite: None,
            append_x_forwarded_host: false,
            timeout: Some(Duration::from_secs(15)),
            idle_timeout: None,
            max_stream_duration: None,
            retry: None,
            hash: Vec::new(),
            upgrades: Vec::new(),
            priority: Priority::Default,
            body_buffer_bytes: None,
        }
    }
}

/// How a cluster is chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterChoice {
    /// This one.
    Cluster(ClusterName),
    /// The one that the header names.
    Header(HeaderName),
    /// By weight.
    Weighted(Arc<[WeightedCluster]>),
}

impl ClusterChoice {
    /// Every cluster that can be known beforehand.
    pub fn named(&self) -> impl Iterator<Item = &ClusterName> {
        let (one, many) = match self {
            Self::Cluster(name) => (Some(name), &[][..]),
            Self::Header(_) => (None, &[][..]),
            Self::Weighted(clusters) => (None, &**clusters),
        };
        one.into_iter().chain(many.iter().map(|cluster| &cluster.name))
    }
}

/// One of several clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedCluster {
    /// Its name.
    pub name: ClusterName,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// Edits for requests that go there.
    pub request_headers: HeaderEdits,
    /// Edits for responses from there.
    pub response_headers: HeaderEdits,
    /// The authority there.
    pub host_rewrite: Option<Arc<str>>,
    /// Filter settings for requests that go there, by filter name.
    pub overrides: Vec<FilterOverride>,
    /// What it was made from.
    pub origin: Option<Origin>,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// The matched prefix or whole path is replaced.
    Prefix(Arc<str>),
    /// Matches of the pattern are replaced, in the path without its query.
    Pattern(Substitution),
}

/// What becomes of the authority.
#[derive(Clone, Debug, PartialEq)]
pub enum HostRewrite {
    /// This.
    Literal(Arc<str>),
    /// The host name of the endpoint, where it was resolved from one.
    Endpoint,
    /// The value of the header.
    Header(HeaderName),
    /// Matches of the pattern in the path are replaced; the result is the host.
    FromPath(Substitution),
}

/// What the load balancer hashes.
#[derive(Clone, Debug, PartialEq)]
pub struct HashPolicy {
    /// The value.
    pub source: HashSource,
    /// If this gave a value, later policies are not looked at.
    pub terminal: bool,
}

/// A value to hash.
#[derive(Clone, Debug, PartialEq)]
pub enum HashSource {
    /// Of a header.
    Header(HeaderName),
    /// Of a cookie.
    Cookie(HashCookie),
    /// Of a query parameter.
    Query(Arc<str>),
    /// The downstream address.
    SourceIp,
}

/// A cookie that is hashed, and set where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCookie {
    /// Its name.
    pub name: Arc<str>,
    /// Its `Max-Age`, in whole seconds; `None` never sets one, zero sets one for the session.
    pub ttl: Option<Duration>,
    /// Its `Path`, empty for none.
    pub path: Arc<str>,
    /// Further attributes by name, some without a value.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
}

/// Which requests a circuit-breaker limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Normal.
    #[default]
    Default,
    /// High.
    High,
}

/// An upgrade that is allowed or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeSetting {
    /// Its token, lower-case, such as `websocket`.
    pub protocol: Arc<str>,
    /// Whether it is allowed.
    pub enabled: bool,
}

/// Answers with a redirect.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Another scheme.
    pub scheme: Option<Arc<str>>,
    /// Another host.
    pub host: Option<Arc<str>>,
    /// Another port.
    pub port: Option<u16>,
    /// Another path.
    pub path: Option<RedirectPath>,
    /// Leave the query out.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Clone, Debug, PartialEq)]
pub enum RedirectPath {
    /// This path and query.
    Full(Arc<str>),
    /// The matched prefix is replaced.
    Prefix(Arc<str>),
    /// Matches of the pattern are replaced.
    Pattern(Substitution),
}

/// Answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// Status code.
    pub status: u16,
    /// Body, possibly empty.
    pub body: Arc<[u8]>,
}
