//! The objects of the demonstration, as people would write them.

use std::path::Path;

use anyhow::Result;

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

/// The services; their endpoints register themselves.
pub const SERVICES: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: order, namespace: shop}
spec:
  hosts: [order]
  ports: [{number: 9090, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: order}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: stock}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment, namespace: shop}
spec:
  hosts: [payment]
  ports: [{number: 7070, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: payment}}
---
apiVersion: networking.istio.io/v1
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

/// An object with a mistake in it.
pub const BAD: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock, namespace: shop}
spec:
  hosts: [stock]
  http:
  - timeout: fast
    route:
    - destination: {host: stock}
";

/// Writes a file as a whole: nobody reads half of it.
pub fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let temporary = directory.join(format!(".{name}.new"));
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, directory.join(name))?;
    Ok(())
}
