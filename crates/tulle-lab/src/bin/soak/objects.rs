//! The objects that the control plane reads during the run, as people would write them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

/// The virtual address of the service under load.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Its port for HTTP/1.
pub const HTTP1: u16 = 8080;
/// Its port for HTTP/2 and gRPC.
pub const HTTP2: u16 = 9090;
/// Its port for TCP.
pub const TCP: u16 = 7000;
/// How long a connection of a proxy's pool stays open without a request.
pub const IDLE: Duration = Duration::from_secs(3);
/// How edits show in requests.
pub const EDIT_HEADER: &str = "x-soak-edit";

/// What an edit adds on purpose to make a check fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Some requests are answered with this status.
    Abort(u16),
    /// Some requests wait longer than their client.
    Delay,
}

/// The service under load, with a virtual address; its endpoints register themselves.
pub const ECHO: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo, namespace: soak}
spec:
  hosts: [echo]
  addresses: [10.9.0.1]
  location: MESH_INTERNAL
  ports:
  - {number: 8080, name: http, protocol: HTTP}
  - {number: 9090, name: http2, protocol: HTTP2}
  - {number: 7000, name: tcp, protocol: TCP}
  resolution: STATIC
  workloadSelector: {labels: {app: echo}}
";

/// The virtual address of the destination with this number that nobody has called yet.
pub fn seldom_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 10, high, low)
}

/// Destinations that are known and not called, each with the instances that stay as endpoints.
pub fn seldom(numbers: std::ops::Range<u16>, stays: &[SocketAddr]) -> String {
    let idle = IDLE.as_secs();
    let endpoint =
        |at: &SocketAddr| format!("{{address: {}, ports: {{http: {}}}}}", at.ip(), at.port());
    let endpoints = stays.iter().map(endpoint).collect::<Vec<_>>().join(", ");
    let one = |number| {
        let address = seldom_address(number);
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: seldom-{number}, namespace: soak}}
spec:
  hosts: [seldom-{number}]
  addresses: [{address}]
  location: MESH_INTERNAL
  ports: [{{number: {HTTP1}, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{endpoints}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: seldom-{number}, namespace: soak}}
spec:
  host: seldom-{number}
  trafficPolicy: {{connectionPool: {{http: {{idleTimeout: {idle}s}}}}}}
"
        )
    };
    numbers.map(one).collect::<Vec<_>>().join("---\n")
}

/// The edit with this number: another header for the applications, another way to balance, and
/// every third time other weights of the same destination.
pub fn edit(number: u64, harm: Option<Harm>) -> String {
    let balance = ["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"][(number % 3) as usize];
    let fault = match harm {
        None => String::new(),
        Some(Harm::Abort(status)) => {
            format!("    fault: {{abort: {{httpStatus: {status}, percentage: {{value: 1}}}}}}\n")
        }
        Some(Harm::Delay) => {
            "    fault: {delay: {fixedDelay: 60s, percentage: {value: 1}}}\n".to_owned()
        }
    };
    let first = 10 + number % 80;
    let rest = 100 - first;
    let idle = IDLE.as_secs();
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo, namespace: soak}}
spec:
  hosts: [echo]
  http:
  - headers: {{request: {{set: {{{EDIT_HEADER}: \"{number}\"}}}}}}
{fault}    route:
    - destination: {{host: echo, subset: one}}
      weight: {first}
    - destination: {{host: echo, subset: two}}
      weight: {rest}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: echo, namespace: soak}}
spec:
  host: echo
  trafficPolicy:
    loadBalancer: {{simple: {balance}}}
    connectionPool: {{http: {{idleTimeout: {idle}s}}}}
  subsets:
  - {{name: one, labels: {{version: one}}}}
  - {{name: two, labels: {{version: two}}}}
"
    )
}

/// Files that must be refused: a bad field of a good kind, no YAML at all, an unknown kind.
pub fn bad(number: u64) -> &'static str {
    match number % 3 {
        0 => {
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bad, namespace: soak}
spec:
  hosts: [echo]
  http:
  - timeout: fast
    route:
    - destination: {host: echo}
"
        }
        1 => "kind: [VirtualService\n  nothing: {closed\n",
        _ => "apiVersion: networking.istio.io/v1\nkind: Sidecat\nmetadata: {name: bad}\n",
    }
}

/// A file that is not bad, where a bad one is expected.
pub const NOT_BAD: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bad, namespace: soak}
spec:
  hosts: [not-bad]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.9}]
";

/// Writes a file as a whole: nobody reads half of it.
pub fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let temporary = directory.join(format!(".{name}.new"));
    fs::write(&temporary, text)?;
    fs::rename(temporary, directory.join(name))?;
    Ok(())
}
