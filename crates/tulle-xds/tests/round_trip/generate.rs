//! Values of the model, as wild as the decoder accepts them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use tulle_model::access_log::{AccessLog, LogFormat, LogSink};
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::*;
use tulle_model::head::HeaderName;
use tulle_model::header_edit::{AppendAction, HeaderAdd, HeaderEdits, Template};
use tulle_model::http::*;
use tulle_model::listener::*;
use tulle_model::matcher::*;
use tulle_model::name::Direction;
use tulle_model::origin::Origin;
use tulle_model::resource::Resource;
use tulle_model::retry::{RetryOn, RetryPolicy};
use tulle_model::route::*;
use tulle_model::tls::{Certificate, DataSource, DownstreamTls, UpstreamTls};

pub fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![listener(), routes(), cluster(), endpoints()]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9._|:/é-]{1,12}".prop_map(Arc::from)
}

fn maybe() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just(Arc::from("")), text()]
}

fn host() -> impl Strategy<Value = Arc<str>> {
    "[a-z]{1,6}(\\.[a-z]{1,6}){0,2}".prop_map(Arc::from)
}

fn span() -> impl Strategy<Value = Duration> {
    (0..100_000u64, 0..1_000_000_000u32)
        .prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
        .prop_filter("not zero", |span| !span.is_zero())
}

fn header() -> impl Strategy<Value = HeaderName> {
    let names = ["x-a", "x-tulle-b", "user-agent", "content-type", "cookie", "via"];
    select(names.to_vec()).prop_map(|name| HeaderName::parse(name).unwrap())
}

fn any_header() -> impl Strategy<Value = HeaderName> {
    let pseudo = [":path", ":method", ":authority"];
    let pseudo = select(pseudo.to_vec()).prop_map(|name| HeaderName::parse(name).unwrap());
    prop_oneof![3 => header(), 1 => pseudo]
}

fn origin() -> impl Strategy<Value = Option<Origin>> {
    let name = || "[a-z0-9-]{1,8}";
    let field = prop_oneof![Just(String::new()), "spec\\.http\\[[0-9]\\]\\.[a-z]{1,6}"];
    of((select(vec!["VirtualService", "Gateway"]), name(), name(), field).prop_map(
        |(kind, namespace, name, field)| Origin::of_object(kind, &namespace, &name).at(field),
    ))
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from),]
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    (ip(), any::<u16>()).prop_map(SocketAddr::from)
}

fn net() -> impl Strategy<Value = IpNet> {
    (ip(), 0..=32u8).prop_map(|(ip, length)| IpNet::new(ip, length).unwrap().trunc())
}

fn pattern() -> impl Strategy<Value = Pattern> {
    select(vec!["a+", "(v[12])/.*", "^x$", "[^/]*"]).prop_map(|text| Pattern::new(text).unwrap())
}

fn substitution() -> impl Strategy<Value = Substitution> {
    select(vec![("(a)(b)", "\\2-\\1"), ("^/x", "/y"), ("[$]", "$1")])
        .prop_map(|(from, to)| Substitution::new(from, to).unwrap())
}

fn string() -> impl Strategy<Value = StringMatch> {
    let kind = prop_oneof![
        maybe().prop_map(StringMatchKind::Exact),
        text().prop_map(StringMatchKind::Prefix),
        text().prop_map(StringMatchKind::Suffix),
        text().prop_map(StringMatchKind::Contains),
        pattern().prop_map(StringMatchKind::Pattern),
    ];
    (kind, any::<bool>()).prop_map(|(kind, ignore_case)| StringMatch { kind, ignore_case })
}

fn header_match() -> BoxedStrategy<HeaderMatch> {
    let check = prop_oneof![
        any::<bool>().prop_map(HeaderCheck::Present),
        string().prop_map(HeaderCheck::String),
        any::<(i64, i64)>().prop_map(|(start, end)| HeaderCheck::Range { start, end }),
    ];
    (any_header(), check, any::<bool>(), any::<bool>())
        .prop_map(|(name, check, invert, treat_missing_as_empty)| HeaderMatch {
            name,
            check,
            invert,
            treat_missing_as_empty,
        })
        .boxed()
}

fn query_match() -> impl Strategy<Value = QueryMatch> {
    let check = prop_oneof![
        any::<bool>().prop_map(QueryCheck::Present),
        string().prop_map(QueryCheck::String)
    ];
    (text(), check).prop_map(|(name, check)| QueryMatch { name, check })
}

fn fraction() -> impl Strategy<Value = Fraction> {
    (any::<u32>(), select(vec![100, 10_000, 1_000_000]))
        .prop_map(|(numerator, denominator)| Fraction { numerator, denominator })
}

fn template() -> impl Strategy<Value = Template> {
    let formats = ["", "plain", "100%%", "%REQ(X-A?:PATH):5%", "a %PROTOCOL%-%RESP(VIA)%"];
    select(formats.to_vec()).prop_map(|format| Template::parse(format).unwrap())
}

fn edits() -> BoxedStrategy<HeaderEdits> {
    let action = select(vec![
        AppendAction::AppendIfExistsOrAdd,
        AppendAction::AddIfAbsent,
        AppendAction::OverwriteIfExistsOrAdd,
        AppendAction::OverwriteIfExists,
    ]);
    let add = (header(), template(), action, any::<bool>()).prop_map(
        |(name, value, action, keep_empty)| HeaderAdd { name, value, action, keep_empty },
    );
    (vec(add, 0..3), vec(header(), 0..2))
        .prop_map(|(add, remove)| HeaderEdits { add, remove })
        .boxed()
}

fn access_log() -> BoxedStrategy<AccessLog> {
    let sink = prop_oneof![
        Just(LogSink::Stdout),
        Just(LogSink::Stderr),
        "/var/[a-z]{1,4}".prop_map(|path| LogSink::File(path.into())),
    ];
    let json = btree_map("[a-z]{1,4}", template(), 0..3).prop_map(|fields| {
        LogFormat::Json(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
    });
    let format = prop_oneof![template().prop_map(LogFormat::Text), json];
    (sink, format).prop_map(|(sink, format)| AccessLog { sink, format }).boxed()
}

fn data_source() -> impl Strategy<Value = DataSource> {
    prop_oneof![
        text().prop_map(DataSource::File),
        vec(any::<u8>(), 0..9).prop_map(|bytes| DataSource::Inline(bytes.into())),
    ]
}

fn certificate() -> impl Strategy<Value = Certificate> {
    (data_source(), data_source()).prop_map(|(chain, key)| Certificate { chain, key })
}

fn downstream_tls() -> BoxedStrategy<DownstreamTls> {
    let alpn = vec(text(), 0..2);
    (vec(certificate(), 1..3), alpn, of(data_source()), any::<bool>())
        .prop_map(|(certificates, alpn, client_roots, require)| DownstreamTls {
            certificates,
            alpn,
            require_client_certificate: require && client_roots.is_some(),
            client_roots,
        })
        .boxed()
}

fn upstream_tls() -> BoxedStrategy<UpstreamTls> {
    let roots = of((data_source(), vec(string(), 0..2)));
    (of(host()), vec(text(), 0..2), of(certificate()), roots)
        .prop_map(|(sni, alpn, certificate, roots)| {
            let (roots, subject_alt_names) = roots.unzip();
            let subject_alt_names = subject_alt_names.unwrap_or_default();
            UpstreamTls { sni, alpn, certificate, roots, subject_alt_names }
        })
        .boxed()
}

fn retry() -> BoxedStrategy<RetryPolicy> {
    let conditions = vec(select(RetryOn::NAMES.to_vec()), 0..4).prop_map(|conditions| {
        conditions.into_iter().fold(RetryOn::NONE, |all, (_, one)| all.union(one))
    });
    let pauses = of((span(), span()));
    let codes = vec(100..600u16, 0..3);
    let headers = vec(header_match(), 0..2);
    let others = (any::<bool>(), 1..9u32);
    (conditions, any::<u32>(), of(span()), codes, headers, pauses, others)
        .prop_map(|(on, retries, per_try_timeout, codes, headers, pauses, others)| {
            let mut policy = RetryPolicy::new(on, retries);
            policy.per_try_timeout = per_try_timeout;
            policy.retriable_status_codes = codes;
            policy.retriable_headers = headers;
            if let Some((base, more)) = pauses {
                policy.base_interval = base;
                policy.max_interval = base + more;
            }
            (policy.other_host, policy.host_selection_attempts) = others;
            policy
        })
        .boxed()
}

fn fault() -> BoxedStrategy<FaultSettings> {
    let abort = prop_oneof![
        (200..600u16).prop_map(FaultAbort::Http),
        any::<u32>().prop_map(FaultAbort::Grpc),
        Just(FaultAbort::Header),
    ];
    let headers = vec(header_match(), 0..2);
    let delay = prop_oneof![span().prop_map(FaultDelay::Fixed), Just(FaultDelay::Header)];
    let rate = prop_oneof![any::<NonZeroU64>().prop_map(FaultRate::Fixed), Just(FaultRate::Header)];
    let all = (of((delay, fraction())), of((abort, fraction())), of((rate, fraction())));
    (all, headers, maybe())
        .prop_map(|((delay, abort, response_rate), headers, upstream_cluster)| FaultSettings {
            delay,
            abort,
            response_rate,
            headers,
            upstream_cluster,
        })
        .boxed()
}

fn buffer() -> BoxedStrategy<BufferSettings> {
    any::<NonZeroU32>().prop_map(|max_request_bytes| BufferSettings { max_request_bytes }).boxed()
}

fn overrides() -> BoxedStrategy<Vec<FilterOverride>> {
    let setting = prop_oneof![
        Just(OverrideSetting::Disabled),
        fault().prop_map(|settings| OverrideSetting::Fault(settings.into())),
        buffer().prop_map(OverrideSetting::Buffer),
    ];
    btree_map("[a-z.]{1,6}", setting, 0..2)
        .prop_map(|overrides| {
            let one =
                |(filter, setting): (String, _)| FilterOverride { filter: filter.into(), setting };
            overrides.into_iter().map(one).collect()
        })
        .boxed()
}

fn upgrades() -> impl Strategy<Value = Vec<UpgradeSetting>> {
    let one = ("[a-z]{1,9}", any::<bool>())
        .prop_map(|(protocol, enabled)| UpgradeSetting { protocol: protocol.into(), enabled });
    vec(one, 0..2)
}

fn weighted() -> BoxedStrategy<WeightedCluster> {
    (text(), 1..1000u32, edits(), edits(), of(host()), overrides(), origin())
        .prop_map(
            |(name, weight, request_headers, response_headers, host_rewrite, overrides, origin)| {
                WeightedCluster {
                    name: name.into(),
                    weight,
                    request_headers,
                    response_headers,
                    host_rewrite,
                    overrides,
                    origin,
                }
            },
        )
        .boxed()
}

fn hash_policy() -> impl Strategy<Value = HashPolicy> {
    let attributes = vec((text(), maybe()), 0..3);
    let cookie = (text(), of(prop_oneof![Just(Duration::ZERO), span()]), maybe(), attributes)
        .prop_map(|(name, ttl, path, attributes)| {
            HashSource::Cookie(HashCookie { name, ttl, path, attributes })
        });
    let source = prop_oneof![
        any_header().prop_map(HashSource::Header),
        cookie,
        maybe().prop_map(HashSource::Query),
        Just(HashSource::SourceIp),
    ];
    (source, any::<bool>()).prop_map(|(source, terminal)| HashPolicy { source, terminal })
}

fn forward() -> BoxedStrategy<Forward> {
    let cluster = prop_oneof![
        text().prop_map(|name| ClusterChoice::Cluster(name.into())),
        header().prop_map(ClusterChoice::Header),
        vec(weighted(), 1..4).prop_map(|all| ClusterChoice::Weighted(all.into())),
    ];
    let path = prop_oneof![
        text().prop_map(PathRewrite::Prefix),
        substitution().prop_map(PathRewrite::Pattern)
    ];
    let host = prop_oneof![
        host().prop_map(HostRewrite::Literal),
        Just(HostRewrite::Endpoint),
        header().prop_map(HostRewrite::Header),
        substitution().prop_map(HostRewrite::FromPath),
    ];
    let or_off = || of(prop_oneof![Just(Duration::ZERO), span()]);
    let times = (of(span()), or_off(), or_off());
    let rest = (of(retry()), vec(hash_policy(), 0..3), upgrades());
    let flags = (select(vec![503, 404, 500]), any::<bool>(), any::<bool>());
    (cluster, of(path), of(host), times, rest, flags)
        .prop_map(|(cluster, path_rewrite, host_rewrite, times, rest, flags)| Forward {
            cluster,
            cluster_not_found_status: flags.0,
            path_rewrite,
            host_rewrite,
            append_x_forwarded_host: flags.1,
            timeout: times.0,
            idle_timeout: times.1,
            max_stream_duration: times.2,
            retry: rest.0.map(Arc::new),
            hash: rest.1,
            upgrades: rest.2,
            priority: if flags.2 { Priority::High } else { Priority::Default },
            body_buffer_bytes: flags.2.then_some(4096),
        })
        .boxed()
}

fn action() -> BoxedStrategy<RouteAction> {
    let path = prop_oneof![
        maybe().prop_map(RedirectPath::Full),
        maybe().prop_map(RedirectPath::Prefix),
        substitution().prop_map(RedirectPath::Pattern),
    ];
    let redirect = (
        select(vec![301, 302, 303, 307, 308]),
        of(text()),
        of(host()),
        of(1..=u16::MAX),
        of(path),
        any::<bool>(),
    )
        .prop_map(|(status, scheme, host, port, path, strip_query)| {
            RouteAction::Redirect(Redirect { status, scheme, host, port, path, strip_query })
        });
    let direct = (200..600u16, vec(any::<u8>(), 0..9)).prop_map(|(status, body)| {
        RouteAction::DirectResponse(DirectResponse { status, body: body.into() })
    });
    prop_oneof![3 => forward().prop_map(RouteAction::Forward), 1 => redirect, 1 => direct].boxed()
}

fn route_match() -> BoxedStrategy<RouteMatch> {
    let path = prop_oneof![
        maybe().prop_map(PathMatch::Prefix),
        maybe().prop_map(PathMatch::Exact),
        "/[a-z/]{0,4}[a-z]".prop_map(|prefix| PathMatch::PathSeparatedPrefix(prefix.into())),
        pattern().prop_map(PathMatch::Pattern),
        Just(PathMatch::Connect),
    ];
    let lists = (vec(header_match(), 0..3), vec(query_match(), 0..2));
    (path, any::<bool>(), lists, of(fraction()), any::<bool>())
        .prop_map(|(path, ignore_case, (headers, query), fraction, grpc_only)| RouteMatch {
            path,
            ignore_case,
            headers,
            query,
            fraction,
            grpc_only,
        })
        .boxed()
}

fn route() -> BoxedStrategy<Arc<Route>> {
    (maybe(), route_match(), action(), edits(), edits(), overrides(), origin())
        .prop_map(
            |(name, matches, action, request_headers, response_headers, overrides, origin)| {
                let route = Route {
                    name,
                    matches,
                    action,
                    request_headers,
                    response_headers,
                    overrides,
                    origin,
                };
                Arc::new(route)
            },
        )
        .boxed()
}

fn virtual_host() -> BoxedStrategy<VirtualHost> {
    let tls = select(vec![TlsRequirement::None, TlsRequirement::ExternalOnly, TlsRequirement::All]);
    let flags = any::<(bool, bool)>();
    let rest = (of(retry()), flags, overrides(), origin());
    (maybe(), vec(route(), 0..3), tls, edits(), edits(), rest)
        .prop_map(|(name, routes, require_tls, request_headers, response_headers, rest)| {
            VirtualHost {
                name,
                domains: Vec::new(),
                routes,
                require_tls,
                request_headers,
                response_headers,
                retry: rest.0.map(Arc::new),
                include_request_attempt_count: rest.1.0,
                include_attempt_count_in_response: rest.1.1,
                overrides: rest.2,
                origin: rest.3,
            }
        })
        .boxed()
}

fn configuration() -> BoxedStrategy<RouteConfiguration> {
    let form = select(vec!["{}.com", "*.{}.com", "{}.*", "*-{}", "Upper.{}"]);
    let hosts = vec((virtual_host(), vec(form, 1..4)), 0..3);
    (text(), hosts, edits(), edits(), any::<(bool, bool)>(), origin())
        .prop_map(|(name, hosts, request_headers, response_headers, flags, origin)| {
            let distinct = |(index, (mut host, forms)): (usize, (VirtualHost, Vec<&str>))| {
                let domain = |(at, form): (usize, &str)| {
                    Arc::from(form.replace("{}", &format!("h{index}x{at}")))
                };
                host.domains = forms.into_iter().enumerate().map(domain).collect();
                Arc::new(host)
            };
            let virtual_hosts: Vec<_> = hosts.into_iter().enumerate().map(distinct).collect();
            RouteConfiguration {
                name: name.into(),
                domains: DomainTable::new(&virtual_hosts).unwrap(),
                virtual_hosts,
                request_headers,
                response_headers,
                ignore_port_in_host_matching: flags.0,
                most_specific_header_mutations_wins: flags.1,
                origin,
            }
        })
        .boxed()
}

pub fn routes() -> impl Strategy<Value = Resource> {
    configuration().prop_map(|routes| Resource::Routes(Arc::new(routes)))
}

fn http1() -> impl Strategy<Value = Http1Settings> {
    (any::<[bool; 3]>(), maybe()).prop_map(|(flags, default_host_for_http_10)| Http1Settings {
        accept_http_10: flags[0],
        default_host_for_http_10,
        enable_trailers: flags[1],
        preserve_case: flags[2],
    })
}

fn http2() -> impl Strategy<Value = Http2Settings> {
    let window = || 65_535..=0x7fff_ffffu32;
    let probe = || (1..=3_600_000u64).prop_map(Duration::from_millis);
    let keepalive = (probe(), probe());
    let keepalive = keepalive.prop_map(|(interval, timeout)| Http2Keepalive { interval, timeout });
    (1..=u32::MAX, window(), window(), any::<bool>(), of(keepalive)).prop_map(
        |(max_concurrent_streams, stream, connection, allow_connect, keepalive)| Http2Settings {
            max_concurrent_streams,
            stream_window_bytes: stream,
            connection_window_bytes: connection,
            allow_connect,
            keepalive,
        },
    )
}

fn timeouts() -> BoxedStrategy<HttpTimeouts> {
    let limit = || of(span());
    let end = || prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(1)), span()];
    (limit(), limit(), limit(), limit(), limit(), limit(), end())
        .prop_map(|(request_headers, request, stream_idle, idle, connection, stream, close)| {
            HttpTimeouts {
                request_headers,
                request,
                stream_idle,
                idle,
                max_connection_duration: connection,
                max_stream_duration: stream,
                delayed_close: close,
            }
        })
        .boxed()
}

fn trust() -> BoxedStrategy<Trust> {
    (any::<[bool; 5]>(), any::<u32>())
        .prop_map(|(flags, xff_trusted_hops)| Trust {
            use_remote_address: flags[0],
            xff_trusted_hops,
            skip_xff_append: flags[1],
            generate_request_id: flags[2],
            preserve_external_request_id: flags[3],
            always_set_request_id_in_response: flags[4],
            internal_addresses: if flags[0] { vec!["10.0.0.0/8".parse().unwrap()] } else { vec![] },
        })
        .boxed()
}

fn filters() -> impl Strategy<Value = Vec<HttpFilter>> {
    let kind = prop_oneof![
        fault().prop_map(|settings| FilterKind::Fault(settings.into())),
        buffer().prop_map(FilterKind::Buffer),
    ];
    let filter = ("[a-z.]{1,6}", kind, any::<bool>())
        .prop_map(|(name, kind, disabled)| HttpFilter { name: name.into(), kind, disabled });
    (vec(filter, 0..2), any::<bool>()).prop_map(|(mut filters, suppress_envoy_headers)| {
        let kind = FilterKind::Router(RouterSettings { suppress_envoy_headers });
        filters.push(HttpFilter { kind, ..HttpFilter::router() });
        filters
    })
}

fn manager() -> BoxedStrategy<HttpConnectionManager> {
    let source = prop_oneof![
        text().prop_map(|name| RouteSource::Discovered(name.into())),
        configuration().prop_map(|routes| RouteSource::Inline(Arc::new(routes))),
    ];
    let codec = select(vec![Codec::Auto, Codec::Http1, Codec::Http2]);
    let limits = (1..=8192usize, 1..5000usize, of(1..9u32)).prop_map(|(kib, headers, requests)| {
        HttpLimits { head_bytes: kib * 1024, headers, requests_per_connection: requests }
    });
    let slashes = select(vec![
        EscapedSlashes::Keep,
        EscapedSlashes::Reject,
        EscapedSlashes::UnescapeAndRedirect,
        EscapedSlashes::UnescapeAndForward,
    ]);
    let path = (any::<(bool, bool)>(), slashes).prop_map(|(flags, escaped_slashes)| {
        PathNormalization { normalize: flags.0, merge_slashes: flags.1, escaped_slashes }
    });
    let port = select(vec![StripPort::Keep, StripPort::Matching, StripPort::Any]);
    let when = select(vec![
        ServerHeaderWhen::Overwrite,
        ServerHeaderWhen::AppendIfAbsent,
        ServerHeaderWhen::PassThrough,
    ]);
    let server = (text(), when).prop_map(|(name, when)| ServerHeader { name, when });
    let underscores =
        select(vec![HeaderUnderscores::Allow, HeaderUnderscores::Reject, HeaderUnderscores::Drop]);
    let first = (maybe(), codec, source, filters(), timeouts(), limits, underscores);
    let second = (trust(), path, port, server, maybe(), upgrades());
    (first, second, http1(), http2(), vec(access_log(), 0..2))
        .prop_map(|(first, second, http1, http2, access_log)| HttpConnectionManager {
            stat_prefix: first.0,
            codec: first.1,
            routes: first.2,
            filters: first.3,
            timeouts: first.4,
            limits: first.5,
            trust: second.0,
            path: second.1,
            strip_port: second.2,
            server: second.3,
            via: second.4,
            upgrades: second.5,
            http1,
            http2,
            underscores: first.6,
            proxy_100_continue: first.1 == Codec::Http1,
            access_log,
        })
        .boxed()
}

fn tcp_proxy() -> BoxedStrategy<TcpProxy> {
    let cluster = (text(), 1..1000u32).prop_map(|(name, weight)| (name.into(), weight));
    let logs = vec(access_log(), 0..2);
    (maybe(), vec(cluster, 1..3), of(span()), 1..9u32, any::<bool>(), logs, origin())
        .prop_map(
            |(
                stat_prefix,
                clusters,
                idle_timeout,
                attempts,
                hash_source_ip,
                access_log,
                origin,
            )| {
                TcpProxy {
                    stat_prefix,
                    clusters,
                    idle_timeout,
                    max_connect_attempts: attempts,
                    hash_source_ip,
                    access_log,
                    origin,
                }
            },
        )
        .boxed()
}

fn chain_match() -> impl Strategy<Value = ChainMatch> {
    let name = prop_oneof![host(), host().prop_map(|host| format!("*.{host}").into())];
    let source = select(vec![SourceType::Any, SourceType::SameIpOrLoopback, SourceType::External]);
    let nets = || vec(net(), 0..2);
    let names = (vec(name, 0..3), maybe(), vec(text(), 0..2));
    (of(any::<u16>()), nets(), names, nets(), source, nets(), vec(any::<u16>(), 0..2)).prop_map(
        |(destination_port, destinations, names, direct_sources, source_type, sources, ports)| {
            ChainMatch {
                destination_port,
                destinations,
                server_names: names.0,
                transport_protocol: names.1,
                application_protocols: names.2,
                direct_sources,
                source_type,
                sources,
                source_ports: ports,
            }
        },
    )
}

fn chain() -> BoxedStrategy<FilterChain> {
    let network = prop_oneof![
        tcp_proxy().prop_map(|proxy| NetworkFilter::Tcp(Arc::new(proxy))),
        manager().prop_map(|manager| NetworkFilter::Http(Arc::new(manager))),
    ];
    (maybe(), chain_match(), of(downstream_tls()), of(span()), network, origin())
        .prop_map(|(name, matches, tls, connect_timeout, network, origin)| FilterChain {
            name,
            matches,
            tls: tls.map(Arc::new),
            connect_timeout,
            network,
            origin,
        })
        .boxed()
}

pub fn listener() -> BoxedStrategy<Resource> {
    let address = of(socket().prop_filter("an address", |address| address.port() != 0));
    let inspect = (any::<[bool; 4]>(), of(span())).prop_map(|(flags, timeout)| Inspection {
        original_dst: flags[0],
        tls: flags[1],
        http: flags[2],
        timeout,
        continue_on_timeout: flags[3],
    });
    let on_demand = select(vec![OnDemand::Off, OnDemand::Transparent, OnDemand::Explicit]);
    let direction = select(vec![Direction::Unspecified, Direction::Inbound, Direction::Outbound]);
    let chains = (vec(chain(), 0..3), of(chain()));
    let numbers = (any::<bool>(), any::<u32>(), any::<u32>());
    let rest = (on_demand, direction, vec(access_log(), 0..2), origin());
    (text(), vec(socket(), 0..3), address, inspect, chains, (numbers, rest))
        .prop_map(|(name, bind, address, inspect, (mut chains, default), (numbers, rest))| {
            // Chains must not both take the same connection.
            for (index, chain) in chains.iter_mut().enumerate() {
                chain.matches.destination_port = u16::try_from(index).ok();
            }
            let listener = Listener {
                name: name.into(),
                address: if bind.is_empty() { address } else { None },
                bind,
                use_original_dst: numbers.0,
                inspect,
                chains: chains.into_iter().map(Arc::new).collect(),
                default_chain: default.map(Arc::new),
                on_demand: rest.0,
                direction: rest.1,
                buffer_limit_bytes: numbers.1,
                backlog: numbers.2,
                access_log: rest.2,
                origin: rest.3,
            };
            Resource::Listener(Arc::new(listener))
        })
        .boxed()
}

fn peer() -> BoxedStrategy<PeerMetadata> {
    let labels = btree_map("[a-z]{1,4}", "[a-z0-9]{0,4}", 0..3).prop_map(|labels| {
        let label = |(key, value): (String, String)| (key.into(), value.into());
        labels.into_iter().map(label).collect::<BTreeMap<Arc<str>, Arc<str>>>()
    });
    (maybe(), maybe(), maybe(), labels, maybe())
        .prop_map(|(workload, namespace, service_account, labels, cluster)| PeerMetadata {
            workload,
            namespace,
            service_account,
            labels,
            cluster,
        })
        .boxed()
}

fn assignment(
    address: impl Strategy<Value = EndpointAddress> + Clone + 'static,
) -> impl Strategy<Value = Endpoints> {
    let health = select(vec![
        Health::Unknown,
        Health::Healthy,
        Health::Unhealthy,
        Health::Draining,
        Health::Timeout,
        Health::Degraded,
    ]);
    let weight = || (1..=u32::MAX).prop_map(|weight| NonZeroU32::new(weight).unwrap());
    let endpoint = (address, maybe(), weight(), health, peer()).prop_map(
        |(address, hostname, weight, health, peer)| Endpoint {
            address,
            hash_key: hostname.clone(),
            hostname,
            weight,
            health,
            peer: Arc::new(peer),
        },
    );
    let place = (maybe(), maybe(), maybe()).prop_map(|(region, zone, sub_zone)| Locality {
        region,
        zone,
        sub_zone,
    });
    let locality = (place, 0..=LocalityEndpoints::MAX_PRIORITY, of(weight()), vec(endpoint, 0..3))
        .prop_map(|(locality, priority, weight, endpoints)| LocalityEndpoints {
            locality,
            priority,
            weight,
            endpoints,
        });
    let drop = vec((maybe(), any::<u32>()), 0..2);
    (text(), vec(locality, 0..3), 1..=u32::MAX, drop).prop_map(
        |(name, localities, overprovisioning_percent, drop)| Endpoints {
            name: name.into(),
            localities,
            overprovisioning_percent,
            drop,
        },
    )
}

fn fixed() -> impl Strategy<Value = EndpointAddress> + Clone {
    let socket = (any::<[u8; 4]>(), any::<u16>())
        .prop_map(|(ip, port)| EndpointAddress::Socket((ip, port).into()));
    let pipe = "/[a-z]{1,6}".prop_map(|path| EndpointAddress::Pipe(path.into()));
    prop_oneof![socket, pipe]
}

fn named() -> impl Strategy<Value = EndpointAddress> + Clone {
    ("[a-z]{1,5}\\.[a-z]{2,3}", any::<u16>())
        .prop_map(|(host, port)| EndpointAddress::Dns(host.into(), port))
}

pub fn endpoints() -> impl Strategy<Value = Resource> {
    assignment(prop_oneof![fixed(), named()])
        .prop_map(|endpoints| Resource::Endpoints(Arc::new(endpoints)))
}

fn policy() -> impl Strategy<Value = LbPolicy> {
    let ring = (1..8_000_000u64, 0..100_000u64)
        .prop_map(|(minimum, more)| LbPolicy::RingHash { minimum, maximum: minimum + more });
    let choices = (2..=u32::MAX).prop_map(|choices| NonZeroU32::new(choices).unwrap());
    prop_oneof![
        Just(LbPolicy::RoundRobin),
        Just(LbPolicy::Random),
        choices.prop_map(|choices| LbPolicy::LeastRequest { choices }),
        ring,
        select(vec![2, 5, 65_537, 5_000_011])
            .prop_map(|table_size| LbPolicy::Maglev { table_size }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let interval = prop_oneof![Just(Duration::ZERO), span()];
    let budget = (0..=10_000u32, any::<u32>(), interval).prop_map(
        |(basis_points, min_concurrency, interval)| RetryBudget {
            basis_points,
            min_concurrency,
            interval,
        },
    );
    let numbers = any::<[u32; 4]>();
    let some = (numbers, of(budget)).prop_map(|(numbers, retry_budget)| Limits {
        max_connections: numbers[0],
        max_pending_requests: numbers[1],
        max_requests: numbers[2],
        max_retries: numbers[3],
        retry_budget,
    });
    prop_oneof![Just(Limits::default()), some]
}

fn outlier() -> impl Strategy<Value = OutlierDetection> {
    (any::<[u32; 3]>(), any::<[bool; 2]>(), span(), span(), span(), 0..=100u32).prop_map(
        |(counts, flags, interval, base, more, percent)| OutlierDetection {
            consecutive_5xx: counts[0],
            consecutive_gateway_failure: counts[1],
            consecutive_local_origin_failure: counts[2],
            split_external_local_origin_errors: flags[0],
            always_eject_one: flags[1],
            interval,
            base_ejection_time: base,
            max_ejection_time: base + more,
            max_ejection_percent: percent,
        },
    )
}

const FAMILIES: [DnsFamily; 5] = [
    DnsFamily::All,
    DnsFamily::V4Only,
    DnsFamily::V6Only,
    DnsFamily::V6Preferred,
    DnsFamily::V4Preferred,
];

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

pub fn cluster() -> BoxedStrategy<Resource> {
    let discovery = prop_oneof![
        assignment(fixed()).prop_map(|endpoints| Discovery::Static(Arc::new(endpoints))),
        (assignment(named()), span(), select(FAMILIES.to_vec())).prop_map(
            |(endpoints, refresh, family)| Discovery::StrictDns {
                endpoints: Arc::new(endpoints),
                refresh,
                family,
            }
        ),
        Just(Discovery::OriginalDst),
        text().prop_map(|name| Discovery::Eds(name.into())),
    ];
    let protocol = prop_oneof![
        Just(UpstreamProtocol::Http1),
        http2().prop_map(UpstreamProtocol::Http2),
        http2().prop_map(UpstreamProtocol::Downstream),
    ];
    let keepalive = of((1..=u32::MAX).prop_map(|seconds| Duration::from_secs(seconds.into())));
    let requests = of((1..=u32::MAX).prop_map(|count| NonZeroU32::new(count).unwrap()));
    let pool = (requests, of(span()), of(span()), keepalive).prop_map(
        |(requests, idle_timeout, life, tcp_keepalive)| PoolSettings {
            max_requests_per_connection: requests,
            idle_timeout,
            max_connection_duration: life,
            tcp_keepalive,
        },
    );
    let pool = prop_oneof![Just(PoolSettings::default()), pool];
    let limits = (limits(), limits()).prop_map(|(default, high)| ClusterLimits { default, high });
    let first = (text(), maybe(), discovery, policy(), protocol);
    let sources = select(vec![vec![], vec![V4], vec![V6], vec![V4, V6], vec![V6, V4]]);
    let rest = (of(upstream_tls()), span(), pool, limits, of(outlier()), 0..=100u32, origin());
    let rest = (rest, sources);
    (first, rest)
        .prop_map(|((name, alt_stat_name, discovery, policy, protocol), (rest, sources))| {
            let provided = matches!(discovery, Discovery::OriginalDst);
            Resource::Cluster(Arc::new(Cluster {
                name: name.into(),
                alt_stat_name,
                discovery,
                policy: if provided { LbPolicy::ClusterProvided } else { policy },
                protocol,
                tls: rest.0.map(Arc::new),
                connect_timeout: rest.1,
                sources,
                pool: rest.2,
                limits: rest.3,
                outlier: rest.4,
                panic_threshold_percent: rest.5,
                origin: rest.6,
            }))
        })
        .boxed()
}
