//! Host against address: one row for each kind of address and each kind of lie.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;
use tulle_lab::client::http1::Client;
use tulle_lab::client::http2::{self, Http2Request};

use crate::mesh::{Mesh, by_label, log_lines};

/// How a request says whom it wants.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// HTTP/1 with this Host.
    Host(&'static str),
    /// HTTP/1 in absolute form with this authority, and the Host of the cart.
    Absolute(&'static str),
    /// HTTP/2 without TLS, with this authority.
    Authority(&'static str),
}

impl Ask {
    fn name(self) -> &'static str {
        let (Self::Host(name) | Self::Absolute(name) | Self::Authority(name)) = self;
        name
    }
}

/// What the sidecar says of it.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// A request: routes, name of the route, cluster, flags.
    Request(&'static str, &'static str, &'static str, &'static str),
    /// A connection: cluster, flags.
    Connection(&'static str, &'static str),
}

/// One request and what must come of it.
struct Row {
    dialled: &'static str,
    ask: Ask,
    status: u16,
    /// Who receives it.
    at: Option<&'static str>,
    line: Line,
    /// Whom the metrics count it for.
    counted: &'static str,
}

const CART: &str = "10.0.0.1:8080";
const STRANGER: [&str; 2] = ["10.0.0.3:80", "10.0.0.3:8080"];
const LOOSE: &str = "10.0.0.4:8080";
const VAULT: &str = "10.0.0.6:8080";

const TO_CART: Line = Line::Request("cart.test:80", "of-cart", "outbound|80||cart.test", "-");
const TO_VAULT: Line = Line::Request("vault.test:80", "default", "outbound|80||vault.test", "-");
const TO_LOOSE: Line =
    Line::Request("loose.test:8080", "default", "outbound|8080||loose.test", "-");
const PASSED: Line = Line::Connection("PassthroughCluster", "-");

fn row(
    dialled: &'static str,
    ask: Ask,
    at: &'static str,
    line: Line,
    counted: &'static str,
) -> Row {
    Row { dialled, ask, status: 200, at: Some(at), line, counted }
}

fn rows() -> Vec<Row> {
    use Ask::{Absolute, Authority, Host};
    let mut rows = Vec::new();
    let names = ["cart.test", "bank.test", "bank.test:80", "172.16.0.2", "nobody.test"];
    // The address of a service, and that of its endpoint: the service, whatever the name.
    for dialled in ["172.16.0.1:80", CART] {
        for name in names {
            rows.push(row(dialled, Host(name), CART, TO_CART, "cart.test"));
        }
        for ask in [Absolute("bank.test"), Authority("bank.test"), Authority("nobody.test")] {
            rows.push(row(dialled, ask, CART, TO_CART, "cart.test"));
        }
    }
    // An endpoint that has a sidecar too: the port decides there.
    for name in ["vault.test", "bank.test", "nobody.test"] {
        rows.push(row(VAULT, Host(name), VAULT, TO_VAULT, "vault.test"));
    }
    // Several services at one address: the name chooses among them, and nobody else.
    let one = Line::Request("172.16.0.3:80", "default", "outbound|80||one.test", "-");
    let two = Line::Request("172.16.0.3:80", "default", "outbound|80||two.test", "-");
    rows.push(row("172.16.0.3:80", Host("one.test"), "10.0.0.1:8081", one, "one.test"));
    rows.push(row("172.16.0.3:80", Host("two.test"), "10.0.0.2:8081", two, "two.test"));
    rows.push(row("172.16.0.3:80", Authority("two.test"), "10.0.0.2:8081", two, "two.test"));
    for name in ["bank.test", "cart.test", "nobody.test"] {
        rows.push(Row {
            dialled: "172.16.0.3:80",
            ask: Host(name),
            status: 404,
            at: None,
            line: Line::Request("-", "-", "-", "NR"),
            counted: "unknown",
        });
    }
    // Nobody's address: a name that somebody has leads to him, and where he is nowhere in
    // particular to the dialled address; everything else is passed on as it is.
    let bank = Line::Request("bank.test:80", "of-bank", "outbound|80||bank.test", "-");
    let wild = Line::Request("wild.test:8080", "default", "outbound|8080||wild.test", "-");
    let [low, high] = STRANGER;
    rows.push(row(low, Host("cart.test"), CART, TO_CART, "cart.test"));
    for name in ["bank.test", "bank.test:80"] {
        rows.push(row(low, Host(name), "10.0.0.2:8080", bank, "bank.test"));
    }
    rows.push(row(high, Host("wild.test"), high, wild, "wild.test"));
    for (dialled, name) in [(low, "wild.test"), (low, "nobody.test"), (high, "bank.test")] {
        rows.push(row(dialled, Host(name), dialled, PASSED, "unknown"));
    }
    // A service without endpoints of its own owns addresses: the dialled one, whatever the name.
    for name in ["loose.test", "bank.test", "nobody.test"] {
        rows.push(row(LOOSE, Host(name), LOOSE, TO_LOOSE, "loose.test"));
    }
    rows
}

impl Row {
    async fn ask(&self, mesh: &Mesh, path: &str) -> u16 {
        let address: SocketAddr = self.dialled.parse().unwrap();
        let (ask, path) = (self.ask, path.to_owned());
        let asked = mesh.client.enter(move || async move {
            let request = match ask {
                Ask::Host(host) => format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
                Ask::Absolute(host) => {
                    format!("GET http://{host}{path} HTTP/1.1\r\nhost: cart.test\r\n\r\n")
                }
                Ask::Authority(host) => {
                    let client = http2::Client::connect(address).await?;
                    return Ok(client.exchange(&Http2Request::get(host, &path)).await?.status);
                }
            };
            let mut client = Client::connect(address).await?;
            client.send(request.as_bytes()).await;
            Ok(client.response("GET").await?.response.status())
        });
        asked.await.unwrap_or_else(|error| panic!("{self}: {error:#}\n{}", mesh.outputs()))
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {:?}", self.dialled, self.ask)
    }
}

impl Row {
    fn is_to_nobody(&self) -> bool {
        STRANGER.contains(&self.dialled)
    }

    /// Who received it, once, with the name that the caller gave; and nobody else anything.
    async fn check_received(&self, mesh: &Mesh, path: &str) {
        let Some(at) = self.at else {
            assert_eq!(mesh.receivers(), BTreeMap::new(), "{self}");
            return;
        };
        let received = mesh.backends[at].received(1).await;
        let received = received.unwrap_or_else(|error| panic!("{self}: {error:#}"));
        assert_eq!(mesh.receivers(), BTreeMap::from([(at, 1)]), "{self}");
        let request = &received[0].request;
        assert_eq!(request.header("host"), Some(self.ask.name()), "{self}");
        assert!(request.target().ends_with(path), "{self}: {}", request.target());
    }

    fn check_line(&self, line: &Value, path: &str) {
        let field = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
        let seen = ["routes", "route_name", "upstream_cluster", "response_flags"].map(field);
        let wanted = match self.line {
            Line::Request(routes, route, cluster, flags) => {
                assert_eq!(line["path"], path, "{self}: {line:#}");
                assert_eq!(line["authority"], self.ask.name(), "{self}: {line:#}");
                assert_eq!(line["response_code"], self.status, "{self}: {line:#}");
                [routes, route, cluster, flags]
            }
            Line::Connection(cluster, flags) => ["-", "-", cluster, flags],
        };
        assert_eq!(seen, wanted, "{self}: {line:#}");
        assert_eq!(line["downstream_local_address"], self.dialled, "{self}: {line:#}");
    }
}

#[tokio::test]
async fn the_dialled_address_decides_and_a_name_only_among_its_owners() {
    let mesh = Mesh::start().await;
    let (mut dialled, mut inbound) = (BTreeSet::new(), 0);
    let mut before = counted(&mesh.metrics().await);
    for (index, row) in rows().iter().enumerate() {
        let path = format!("/row-{index}");
        mesh.forget_received();
        let status = row.ask(&mesh, &path).await;
        assert_eq!(status, row.status, "{row}\n{}", mesh.outputs());
        row.check_received(&mesh, &path).await;
        let lines = log_lines(&mesh.sidecar, index + 1).await;
        row.check_line(&lines[index], &path);
        let after = counted(&mesh.metrics().await);
        *before.entry(row.counted.to_owned()).or_default() += 1;
        assert_eq!(after, before, "{row}: counted for somebody else");
        before = after;
        // Nothing is asked for but what is bound, what was dialled, and the names that callers of
        // nobody's address gave, where they are not known already.
        dialled.insert(row.dialled.to_owned());
        if let Some((_, port)) = row.dialled.rsplit_once(':').filter(|_| row.is_to_nobody()) {
            let host = row.ask.name().trim_end_matches(":80");
            dialled.extend((host != "cart.test").then(|| format!("{host}:{port}")));
        }
        assert_eq!(mesh.asked().await, 1 + dialled.len() as u64, "{row}");
        if row.dialled == VAULT {
            inbound += 1;
            let line = &log_lines(&mesh.vault_sidecar, inbound).await[inbound - 1];
            assert_eq!(line["path"], path, "{row}: {line:#}");
            assert_eq!(line["upstream_cluster"], "inbound|8080||", "{row}: {line:#}");
        }
    }
    assert_eq!(log_lines(&mesh.vault_sidecar, inbound).await.len(), inbound, "{}", mesh.outputs());
    let metrics = mesh.metrics().await;
    for name in ["nobody.test", "172.16.0.2"] {
        assert!(!metrics.contains(name), "a label says {name}, which nobody has");
    }
}

/// Requests, and connections that are over, by the service they are counted for.
fn counted(metrics: &str) -> BTreeMap<String, u64> {
    let mut all = by_label(metrics, "istio_requests_total", "destination_service");
    let closed = by_label(metrics, "istio_tcp_connections_closed_total", "destination_service");
    for (service, count) in closed {
        *all.entry(service).or_default() += count;
    }
    all
}
