use super::*;
use crate::head::HeaderName;
use crate::matcher::{HeaderCheck, HeaderMatch, PathMatch, Pattern, StringMatch};
use crate::name::ClusterName;
use crate::route::{DomainTable, Forward, RouteAction};
use crate::trace::Recording;

fn make_route(name: &str, matches: RouteMatch) -> Arc<Route> {
    Arc::new(Route {
        name: name.into(),
        matches,
        action: RouteAction::Forward(Forward::to(ClusterName::from("c"))),
        request_headers: Default::default(),
        response_headers: Default::default(),
        overrides: vec![],
        origin: None,
    })
}

type Host<'a> = (&'a str, &'a [&'a str], Vec<Arc<Route>>);

fn config(hosts: &[Host<'_>]) -> RouteConfiguration {
    let virtual_hosts: Vec<_> = hosts
        .iter()
        .map(|(name, domains, routes)| {
            Arc::new(VirtualHost {
                name: (*name).into(),
                domains: domains.iter().map(|domain| (*domain).into()).collect(),
                routes: routes.clone(),
                require_tls: TlsRequirement::None,
                request_headers: Default::default(),
                response_headers: Default::default(),
                retry: None,
                include_request_attempt_count: false,
                include_attempt_count_in_response: false,
                overrides: vec![],
                origin: None,
            })
        })
        .collect();
    let domains = DomainTable::new(&virtual_hosts).expect("no duplicates");
    RouteConfiguration {
        name: "r".into(),
        virtual_hosts,
        domains,
        request_headers: Default::default(),
        response_headers: Default::default(),
        ignore_port_in_host_matching: false,
        most_specific_header_mutations_wins: false,
        origin: None,
    }
}

fn request(host: &str, path: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::new();
    head.set_authority(host.as_bytes()).expect("a good host");
    head.set_path(path.as_bytes()).expect("a good path");
    for (name, value) in headers {
        head.headers.append(*name, value.as_bytes()).expect("a good header");
    }
    head
}

const FACTS: RouteFacts = RouteFacts { random: 0, is_tls: false, is_internal: true };

fn chosen(config: &RouteConfiguration, head: &RequestHead) -> String {
    match route(config, head, FACTS, &mut ()) {
        Routed::Route(host, route) => format!("{}/{}", host.name, route.name),
        Routed::NeedsTls(host) => format!("{} needs tls", host.name),
        Routed::NoVirtualHost => "no virtual host".to_owned(),
        Routed::NoRoute(host) => format!("{} no route", host.name),
    }
}

#[test]
fn virtual_hosts_are_found_exact_suffix_prefix_any() {
    let all = || vec![make_route("r", RouteMatch::prefix("/"))];
    let config = config(&[
        ("any", &["*"], all()),
        ("suffix", &["*.example.com", "*-x.example.com"], all()),
        ("prefix", &["www.*"], all()),
        ("exact", &["www.example.com", "Example.com:8080"], all()),
    ]);
    for (host, expected) in [
        ("www.example.com", "exact"),
        ("EXAMPLE.com:8080", "exact"),
        ("example.com", "any"),
        ("a.example.com", "suffix"),
        ("a-x.example.com", "suffix"),
        ("www.example.org", "prefix"),
        ("www.", "any"),
        (".example.com", "any"),
    ] {
        assert_eq!(chosen(&config, &request(host, "/", &[])), format!("{expected}/r"), "{host}");
    }
}

#[test]
fn only_what_was_believed_says_that_a_request_came_over_tls() {
    let mut wants = config(&[("v", &["*"], vec![make_route("r", RouteMatch::prefix("/"))])]);
    let [host] = &mut *wants.virtual_hosts else { panic!("one virtual host") };
    let required = |inside: &[(&str, &str)], scheme| {
        let mut head = request("x", "/", inside);
        head.scheme = Some(scheme);
        RouteFacts::of(&head, 0)
    };
    let https = ("x-forwarded-proto", "https");
    Arc::make_mut(host).require_tls = TlsRequirement::All;
    for (headers, scheme, is_tls) in [
        (&[][..], Scheme::Https, false),
        (&[("x-forwarded-proto", "http")], Scheme::Https, false),
        (&[https], Scheme::Http, true),
        (&[https, https], Scheme::Http, false),
    ] {
        let facts = required(headers, scheme);
        assert_eq!((facts.is_tls, facts.is_internal), (is_tls, false), "{headers:?}");
        let routed = route(&wants, &request("x", "/", headers), facts, &mut ());
        assert_eq!(matches!(routed, Routed::NeedsTls(_)), !is_tls, "{headers:?}");
    }
}

#[test]
fn the_first_route_that_matches_is_taken_and_the_trace_says_why() {
    let header = HeaderMatch {
        name: HeaderName::parse("x-user").expect("a name"),
        check: HeaderCheck::String(StringMatch::exact("jo")),
        invert: false,
        treat_missing_as_empty: false,
    };
    let by_header = RouteMatch { headers: vec![header], ..RouteMatch::prefix("/") };
    let mut exact = RouteMatch::prefix("/");
    exact.path = PathMatch::Exact("/a".into());
    let mut pattern = RouteMatch::prefix("/");
    pattern.path = PathMatch::Pattern(Pattern::new("/[0-9]+").expect("a pattern"));
    let config = config(&[(
        "v",
        &["*"],
        vec![make_route("h", by_header), make_route("a", exact), make_route("n", pattern)],
    )]);
    assert_eq!(chosen(&config, &request("x", "/a?q=1", &[("x-user", "jo")])), "v/h");
    assert_eq!(chosen(&config, &request("x", "/a?q=1", &[("x-user", "al")])), "v/a");
    assert_eq!(chosen(&config, &request("x", "/12", &[])), "v/n");
    assert_eq!(chosen(&config, &request("x", "/12a", &[])), "v no route");
    let mut trace = Recording::default();
    route(&config, &request("x", "/12", &[]), FACTS, &mut trace);
    let outcomes: Vec<_> = trace.0.iter().map(|step| step.outcome.as_str()).collect();
    assert_eq!(
        outcomes,
        [
            "v for \"x\"",
            "route 0 (h) is passed over: headers",
            "route 1 (a) is passed over: path",
            "route 2 (n) matches"
        ]
    );
}

#[test]
fn weights_are_shares_of_their_sum() {
    let weights = [10, 0, 90];
    let mut hits = [0; 3];
    for random in 0..1000 {
        let chosen = pick_weighted(&weights, |weight| *weight, random).expect("not all zero");
        hits[weights.iter().position(|weight| weight == chosen).expect("one of them")] += 1;
    }
    assert_eq!(hits, [100, 0, 900]);
    assert_eq!(pick_weighted(&[0, 0], |weight| *weight, 7), None);
}

#[test]
fn ports_are_cut_off_but_not_from_literals() {
    for (host, expected) in [("a:80", "a"), ("a", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]")] {
        assert_eq!(without_port(host), expected);
    }
}

#[test]
fn grpc_is_known_by_its_content_type() {
    for (content_type, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        let head = request("x", "/", &[("content-type", content_type)]);
        assert_eq!(is_grpc(&head), expected, "{content_type}");
    }
}
