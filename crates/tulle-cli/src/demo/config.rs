//! The objects of the demonstration, as people would write them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

/// One of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its host.
    pub host: &'static str,
    /// Its port.
    pub port: u16,
    /// Its virtual address, for those who look its name up.
    pub address: Ipv4Addr,
    /// What it calls before it answers.
    pub calls: &'static [&'static str],
}

/// Takes orders; asks for stock and payment.
pub const ORDER: Service = Service {
    host: "order",
    port: 9090,
    address: Ipv4Addr::new(10, 96, 0, 1),
    calls: &["http://stock:8080/", "http://payment:7070/"],
};
/// Knows what is there; has it paid.
pub const STOCK: Service = Service {
    host: "stock",
    port: 8080,
    address: Ipv4Addr::new(10, 96, 0, 2),
    calls: &["http://payment:7070/"],
};
/// Takes money.
pub const PAYMENT: Service =
    Service { host: "payment", port: 7070, address: Ipv4Addr::new(10, 96, 0, 3), calls: &[] };
/// All of them.
pub const SERVICES: [Service; 3] = [ORDER, STOCK, PAYMENT];
/// The instances at the beginning; those that are called first.
pub const INSTANCES: [(Service, &str); 8] = [
    (PAYMENT, "v1"),
    (PAYMENT, "v1"),
    (PAYMENT, "v2"),
    (PAYMENT, "v2"),
    (STOCK, "v1"),
    (STOCK, "v1"),
    (ORDER, "v1"),
    (ORDER, "v1"),
];

/// Who enters by the gateway, and where. What asks may be asked again; what orders may not, unless
/// nothing of it can have arrived.
pub fn gateway(port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: shop, namespace: shop}}
spec:
  selector: {{app: gateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: [shop.example]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop, namespace: shop}}
spec:
  hosts: [shop.example]
  gateways: [shop]
  http:
  - match:
    - method: {{exact: GET}}
    route:
    - destination: {{host: order, port: {{number: 9090}}}}
    retries: {{attempts: 3, retryOn: \"connect-failure,refused-stream,reset\"}}
  - route:
    - destination: {{host: order, port: {{number: 9090}}}}
"
    )
}

/// The services and the versions of payment; endpoints register themselves.
pub fn services() -> String {
    SERVICES.map(service).concat() + VERSIONS
}

fn service(Service { host, port, address, .. }: Service) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {host}, namespace: shop}}
spec:
  hosts: [{host}]
  addresses: [{address}]
  location: MESH_INTERNAL
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  resolution: STATIC
  workloadSelector: {{labels: {{app: {host}}}}}
---
"
    )
}

const VERSIONS: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment, namespace: shop}
spec:
  host: payment
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

/// Testers by header to v2, all others by weight.
pub fn payment(v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: payment, namespace: shop}}
spec:
  hosts: [payment]
  http:
  - name: testers
    match:
    - headers: {{x-tester: {{exact: \"yes\"}}}}
    route:
    - destination: {{host: payment, subset: v2}}
  - name: canary
    route:
    - destination: {{host: payment, subset: v1}}
      weight: {v1}
    - destination: {{host: payment, subset: v2}}
      weight: {v2}
"
    )
}

/// A rule for stock: what its requests are marked with, so that it shows which rule is in force,
/// and how long they may take, which a person may get wrong.
pub fn stock(mark: &str, timeout: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock, namespace: shop}}
spec:
  hosts: [stock]
  http:
  - timeout: {timeout}
    headers: {{request: {{set: {{x-stock-rule: {mark}}}}}}}
    route:
    - destination: {{host: stock}}
"
    )
}

/// Writes a file as a whole: nobody reads half of it.
pub fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let temporary = directory.join(format!(".{name}.new"));
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, directory.join(name))?;
    Ok(())
}

/// Every object file as it is now, to tell whether anybody edited one.
pub fn snapshot(directory: &Path) -> Result<BTreeMap<String, String>> {
    let entries = std::fs::read_dir(directory)?.collect::<std::io::Result<Vec<_>>>()?;
    let files = entries.iter().map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok((name, std::fs::read_to_string(entry.path())?))
    });
    files.collect()
}
