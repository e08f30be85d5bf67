//! What the mesh of this test is told.

use std::time::Duration;

/// How long the rule delays `/slow`.
pub(crate) const DELAY: Duration = Duration::from_millis(200);

/// A service with an address, for requests and for connections.
pub(crate) const STORE: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: store, namespace: shop}
spec:
  hosts: [store.shop]
  addresses: [172.16.0.1]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 9000, name: tcp, protocol: TCP}
  endpoints:
  - {address: 10.7.0.11, labels: {version: v1}}
  - {address: 10.7.0.12, labels: {version: v2}}
";

/// A service that is only known by its host.
pub(crate) const PLAIN: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: plain, namespace: shop}
spec:
  hosts: [plain.shop]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 8081, name: http, protocol: HTTP, targetPort: 8080}
  endpoints:
  - {address: 10.7.0.11}
";

/// A service whose application has a stock Envoy in front of it.
pub(crate) const GUARDED: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: guarded, namespace: shop}
spec:
  hosts: [guarded.shop]
  addresses: [172.16.0.2]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  endpoints:
  - {address: 10.7.0.21}
";

/// Services that own networks: two that share one, one of which nobody says what it speaks, and one
/// with a rule for a part of it; and a TCP service without address with a rule for a network.
pub(crate) const NETWORKS: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: left, namespace: shop}
spec:
  hosts: [left.shop]
  addresses: [172.18.0.0/24]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, targetPort: 8080}]
  endpoints: [{address: 10.7.0.11}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: right, namespace: shop}
spec:
  hosts: [right.shop]
  addresses: [172.18.0.0/24]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, targetPort: 8080}]
  endpoints: [{address: 10.7.0.12}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anything, namespace: shop}
spec:
  hosts: [anything.shop]
  addresses: [172.17.0.0/16, 172.21.0.0/16]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9000, name: x}, {number: 7000, name: y, targetPort: 8080}]
  endpoints: [{address: 10.7.0.11}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wide, namespace: shop}
spec:
  hosts: [wide.shop]
  addresses: [172.19.0.0/16]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8000, name: tcp, targetPort: 8080}]
  endpoints: [{address: 10.7.0.11}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: loose, namespace: shop}
spec:
  hosts: [loose.shop]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8001, name: tcp, targetPort: 8080}]
  endpoints: [{address: 10.7.0.11}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: parts, namespace: shop}
spec:
  hosts: [wide.shop, loose.shop]
  tcp:
  - match: [{destinationSubnets: [172.19.2.0/24, 172.20.2.0/24]}]
    route: [{destination: {host: right.shop}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: others, namespace: shop}
spec:
  hosts: [guarded.shop]
  http:
  - match: [{sourceLabels: {app: nobody}}, {port: 81}]
    directResponse: {status: 410}
";

pub(crate) const SUBSETS: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: store, namespace: shop}
spec:
  host: store.shop
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool: {tcp: {connectTimeout: 5s}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

pub(crate) const RULE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: store, namespace: shop}
spec:
  hosts: [store.shop]
  http:
  - match: [{headers: {x-version: {exact: v2}}}]
    route: [{destination: {host: store.shop, subset: v2}}]
  - match: [{uri: {prefix: /weighted}}]
    route:
    - {destination: {host: store.shop, subset: v1}, weight: 50}
    - {destination: {host: store.shop, subset: v2}, weight: 50}
  - match: [{uri: {prefix: /newer}, withoutHeaders: {x-old: {exact: '1'}}}]
    route: [{destination: {host: store.shop, subset: v2}}]
  - match: [{uri: {prefix: /teapot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {prefix: /fault}}]
    fault: {abort: {httpStatus: 555, percentage: {value: 100}}}
    route: [{destination: {host: store.shop, subset: v1}}]
  - match: [{uri: {prefix: /slow}}]
    fault: {delay: {fixedDelay: 200ms, percentage: {value: 100}}}
    route: [{destination: {host: store.shop, subset: v1}}]
  - route: [{destination: {host: store.shop, subset: v1}}]
  tcp:
  - route: [{destination: {host: store.shop, port: {number: 9000}}}]
";

/// An Envoy that asks the control plane behind a socket for everything.
pub(crate) const BOOTSTRAP: &str = "node:
  id: sidecar~{address}~{name}.shop~shop.svc.cluster.local
  cluster: {name}.shop
  metadata: {NAMESPACE: shop, NAME: {name}, LABELS: {app: {name}}, CLUSTER_ID: here}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
dynamic_resources:
  ads_config:
    api_type: {api}
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints: [{endpoint: {address: {pipe: {path: '{socket}'}}}}]
";
