//! Worlds: services, rules and subsets in three namespaces, as a seed has them.

use super::edits;
use super::seed::Seed;

/// The namespaces that callers live in; objects are in the root namespace too.
pub const NAMESPACES: [&str; 2] = ["ant", "bee"];
/// What labels tell callers of a namespace apart.
pub const TIERS: [&str; 2] = ["gold", "silver"];
const ROOT: &str = "istio-system";
const HOMES: [&str; 6] = ["ant", "ant", "bee", "bee", ROOT, ROOT];

/// Hosts that services have.
const HOSTS: [&str; 8] = [
    "cart",
    "stock",
    "cart.ant.svc.cluster.local",
    "pay.bee.svc.cluster.local",
    "pay",
    "shop.example",
    "api.wild.example",
    "*.wild.example",
];
/// Hosts that rules are for: those of services, unfinished ones, and strangers.
const RULED: [&str; 12] = [
    "cart",
    "cart",
    "stock",
    "pay",
    "cart.ant.svc.cluster.local",
    "pay.bee.svc.cluster.local",
    "shop.example",
    "api.wild.example",
    "*.wild.example",
    "*.example",
    "ruled.example",
    "*",
];
/// Where rules send requests.
const DESTINATIONS: [&str; 9] = [
    "cart",
    "cart",
    "stock",
    "stock",
    "pay",
    "cart.ant.svc.cluster.local",
    "shop.example",
    "api.wild.example",
    "nobody.example",
];
/// Authorities that requests name.
const AUTHORITIES: [&str; 24] = [
    "cart",
    "cart:8080",
    "cart:8080",
    "cart:8080",
    "stock",
    "stock:8080",
    "stock:8080",
    "pay:8080",
    "shop.example:8080",
    "STOCK.:8080",
    "pay:8080",
    "cart.ant:8080",
    "cart.ant.svc:8080",
    "cart.ant.svc.cluster.local:8080",
    "pay.bee:8080",
    "pay.bee.svc.cluster.local:80",
    "shop.example",
    "shop.example:8080",
    "api.wild.example",
    "other.wild.example",
    "ruled.example",
    "nobody.example",
    "10.9.0.1:8080",
    "10.9.0.2",
];
const PATHS: [&str; 16] = [
    "/",
    "/a",
    "/A",
    "/a/b",
    "/a/b?x=1",
    "/a?x=2&y",
    "/a/../b/c",
    "/b//c",
    "/b?status=503",
    "/a?status=500",
    "/c?status=409",
    "/b/%61?y=",
    "/d/42",
    "/d/x",
    "/../x",
    "/e?status=418",
];
const METHODS: [&str; 5] = ["GET", "GET", "GET", "POST", "DELETE"];

/// The ports of the application and of nobody.
#[derive(Clone, Copy)]
pub struct Ports {
    /// Answers on every loopback address.
    pub app: u16,
    /// Refuses.
    pub dead: u16,
}

/// A caller and the labels of its workload.
pub struct Caller {
    pub namespace: &'static str,
    pub tier: &'static str,
    pub labels: String,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub authority: &'static str,
    pub path: &'static str,
    pub method: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub http2: bool,
}

/// Every caller there may be; a world has one of each namespace.
pub fn callers() -> Vec<Caller> {
    let of = |namespace| {
        TIERS.map(|tier| Caller { namespace, tier, labels: format!("app=caller,tier={tier}") })
    };
    NAMESPACES.into_iter().flat_map(of).collect()
}

/// The objects, as one file: a world is entered at once.
pub fn files(seed: &mut Seed, ports: Ports) -> String {
    let mut objects = Vec::new();
    objects.extend((0..20).map(|number| service(seed, number, ports)));
    objects.extend((0..5).map(|number| subsets(seed, number)));
    objects.extend((0..8).map(|number| rule(seed, number)));
    objects.join("---\n")
}

/// A request; headers are those that rules look at, and those that a caller may not set.
pub fn request(seed: &mut Seed) -> Request {
    const HEADERS: [(&str, &str); 15] = [
        ("x-user", "alice"),
        ("x-user", "alfred"),
        ("x-user", ""),
        ("x-canary", "always"),
        ("x-canary", "no"),
        ("service", "stock-2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-for", "192.0.2.1, 10.0.0.1"),
        ("x-envoy-max-retries", "4"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "33000"),
        ("x-envoy-internal", "true"),
        ("content-type", "application/grpc"),
        ("x-user", "carol"),
    ];
    let http2 = seed.percent(10);
    let mut headers = seed.some((0, 3), |seed, _| HEADERS[seed.below(HEADERS.len())]);
    headers.sort_unstable();
    headers.dedup_by_key(|(name, _)| *name);
    Request {
        authority: seed.one(&AUTHORITIES),
        path: seed.one(&PATHS),
        method: seed.one(&METHODS),
        headers,
        http2,
    }
}

fn head(seed: &mut Seed, kind: &str, name: &str) -> String {
    let home = seed.one(&HOMES);
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {home}}}\nspec:\n"
    )
}

fn visibility(seed: &mut Seed) -> String {
    seed.maybe(25, |seed| {
        let to = seed.one(&["'*'", "'.'", "ant", "bee", "., bee"]);
        format!("  exportTo: [{to}]\n")
    })
}

fn service(seed: &mut Seed, number: usize, ports: Ports) -> String {
    let mut text = head(seed, "ServiceEntry", &format!("service-{number}"));
    let host = seed.one(&HOSTS);
    let more = seed.maybe(15, |_| format!(", more-{number}.example"));
    text += &format!("  hosts: ['{host}'{more}]\n  resolution: STATIC\n");
    text += "  location: MESH_INTERNAL\n";
    text += &seed.maybe(25, |seed| {
        format!("  addresses: [{}]\n", seed.one(&["10.9.0.1", "10.9.0.2", "10.9.0.0/24"]))
    });
    let protocol = seed.one(&["HTTP", "HTTP", "HTTP", "HTTP2", "TCP"]);
    text += &format!("  ports:\n  - {{number: 8080, name: main, protocol: {protocol}}}\n");
    text += &seed.maybe(60, |_| "  - {number: 80, name: web, protocol: HTTP}\n".into());
    text += &visibility(seed);
    let port = if seed.percent(15) { ports.dead } else { ports.app };
    let web = text.contains("name: web");
    let endpoints = seed.some((0, 4), |seed, instance| {
        let version = seed.one(&["v1", "v1", "v2"]);
        let web = if web { format!(", web: {port}") } else { String::new() };
        format!(
            "  - {{address: 127.1.{number}.{}, ports: {{main: {port}{web}}}, \
             labels: {{version: {version}}}}}\n",
            instance + 1
        )
    });
    match endpoints.concat() {
        none if none.is_empty() => text,
        some => text + "  endpoints:\n" + &some,
    }
}

fn subsets(seed: &mut Seed, number: usize) -> String {
    let mut text = head(seed, "DestinationRule", &format!("subsets-{number}"));
    text += &format!("  host: '{}'\n", seed.one(&HOSTS));
    text += &visibility(seed);
    text += "  subsets:\n  - {name: v1, labels: {version: v1}}\n";
    text += &seed.maybe(80, |_| "  - {name: v2, labels: {version: v2}}\n".into());
    text + "  - {name: none, labels: {version: v9}}\n"
}

fn rule(seed: &mut Seed, number: usize) -> String {
    let mut text = head(seed, "VirtualService", &format!("rule-{number}"));
    let host = seed.one(&RULED);
    let more = match (host, seed.percent(20)) {
        ("*", _) | (_, false) => String::new(),
        _ => format!(", more-{number}.example"),
    };
    text += &format!("  hosts: ['{host}'{more}]\n");
    text += &seed
        .maybe(20, |seed| format!("  gateways: [{}]\n", seed.one(&["mesh", "mesh, edge", "edge"])));
    text += &visibility(seed);
    text += "  http:\n";
    text += &seed.some((1, 5), http).concat();
    text + &seed.maybe(80, |seed| format!("  - name: rest\n{}", forward(seed)))
}

fn http(seed: &mut Seed, number: usize) -> String {
    let mut text = format!("  - name: r{number}\n");
    if seed.percent(20) {
        text = "  -\n".into();
    }
    if seed.percent(70) {
        let matches = seed.some((1, 2), |seed, _| format!("    - {{{}}}\n", condition(seed)));
        text += &format!("    match:\n{}", matches.concat());
    }
    let action = seed.below(100);
    text += &fault(seed, if action < 70 { 30 } else { 10 });
    match action {
        0..70 => text + &forward(seed),
        70..85 => text + &redirect(seed),
        _ => {
            let status = seed.one(&["200", "204", "403", "503"]);
            text + &format!("    directResponse: {{status: {status}, body: {{string: here}}}}\n")
        }
    }
}

/// One match; each of its parts is left out so often that some of them match.
fn condition(seed: &mut Seed) -> String {
    let comparison = |seed: &mut Seed| {
        seed.one(&["exact: alice", "prefix: al", "regex: 'a.*e'", "exact: ''", "regex: '.*'"])
    };
    let path = seed.one(&[
        "uri: {prefix: /a}",
        "uri: {exact: /a}",
        "uri: {prefix: /}",
        "uri: {prefix: /b}",
        "uri: {regex: '/d/[0-9]+'}",
        "uri: {exact: /A}, ignoreUriCase: true",
        "uri: {prefix: /B/}, ignoreUriCase: true",
        "name: named",
    ]);
    let mut parts = vec![path.to_owned()];
    if seed.percent(25) {
        parts.push(format!("headers: {{x-user: {{{}}}}}", comparison(seed)));
    }
    if seed.percent(15) {
        let text = comparison(seed);
        let present = seed.one(&["x-canary: {}", "x-canary: {exact: always}"]);
        parts.push(format!("withoutHeaders: {{x-user: {{{text}}}, {present}}}"));
    }
    for (share, choices) in [
        (10, &["queryParams: {x: {exact: '1'}}", "queryParams: {y: {}}"][..]),
        (10, &["method: {exact: GET}", "method: {regex: 'P.*'}", "method: {prefix: D}"][..]),
        (8, &["authority: {prefix: cart}", "authority: {regex: '.*:8080'}"][..]),
        (8, &["port: 8080", "port: 80"][..]),
        (8, &["sourceLabels: {tier: gold}", "sourceNamespace: bee"][..]),
        (6, &["scheme: {exact: https}", "scheme: {exact: http}"][..]),
        (5, &["gateways: [mesh]", "gateways: [edge]"][..]),
    ] {
        if seed.percent(share) {
            parts.push(seed.one(choices).to_owned());
        }
    }
    parts.join(", ")
}

fn fault(seed: &mut Seed, share: usize) -> String {
    seed.maybe(share, |seed| {
        let part = seed.one(&["0", "50", "100", "100"]);
        let kind = seed.one(&["httpStatus: 418", "httpStatus: 503", "grpcStatus: UNAVAILABLE"]);
        let delay = "delay: {fixedDelay: 2ms, percentage: {value: 100}}";
        match seed.below(3) {
            0 => format!("    fault: {{abort: {{{kind}, percentage: {{value: {part}}}}}}}\n"),
            1 => format!("    fault: {{{delay}}}\n"),
            _ => format!(
                "    fault: {{{delay}, abort: {{{kind}, percentage: {{value: {part}}}}}}}\n"
            ),
        }
    })
}

fn forward(seed: &mut Seed) -> String {
    let several = seed.percent(35);
    let weights: &[&str] = if several { &["30", "70"] } else { &[""] };
    let mut text = String::from("    route:\n");
    for weight in weights {
        let host = seed.one(&DESTINATIONS);
        let subset = seed.maybe(40, |seed| {
            format!(", subset: {}", seed.one(&["v1", "v1", "v2", "none", "unknown"]))
        });
        let port = seed.maybe(40, |seed| {
            format!(", port: {{number: {}}}", seed.one(&["8080", "8080", "80", "81"]))
        });
        let of_subset = subset.strip_prefix(", subset: ").unwrap_or_default();
        let mark = edits::mark(host, of_subset);
        let set = |_: &mut Seed| format!(", headers: {{request: {{set: {{x-sent: {mark}}}}}}}");
        let headers = seed.maybe(30, set);
        let weight = if weight.is_empty() { String::new() } else { format!(", weight: {weight}") };
        let to = format!("{{host: {host}{subset}{port}}}");
        text += &format!("    - {{destination: {to}{headers}{weight}}}\n");
    }
    text += &seed.maybe(30, |seed| {
        let rewrite = seed.one(&[
            "uri: /new",
            "uri: /",
            "uri: /x/",
            "authority: elsewhere.example",
            "uri: /both, authority: elsewhere.example",
            "uriRegexRewrite: {match: '/a(.*)', rewrite: '/z\\1'}",
        ]);
        format!("    rewrite: {{{rewrite}}}\n")
    });
    text += &seed.maybe(30, |seed| format!("    timeout: {}\n", seed.one(&["20s", "40s", "0s"])));
    text += &seed.maybe(35, |seed| {
        let on = seed.maybe(70, |seed| {
            let on = seed.one(&["5xx", "gateway-error", "connect-failure", "retriable-4xx", "418"]);
            format!(", retryOn: '{on}'")
        });
        let per_try = seed.maybe(40, |_| ", perTryTimeout: 9s".into());
        let attempts = seed.one(&["0", "1", "2"]);
        match attempts {
            "0" => "    retries: {attempts: 0}\n".into(),
            some => format!("    retries: {{attempts: {some}{on}{per_try}, backoff: 1ms}}\n"),
        }
    });
    text
}

fn redirect(seed: &mut Seed) -> String {
    let what = seed.one(&[
        "uri: /there",
        "uri: '/there?with=query'",
        "authority: other.example",
        "scheme: https",
        "port: 8443",
        "scheme: https, derivePort: FROM_PROTOCOL_DEFAULT",
        "authority: other.example, derivePort: FROM_REQUEST_PORT, redirectCode: 307",
    ]);
    format!("    redirect: {{{what}}}\n")
}
