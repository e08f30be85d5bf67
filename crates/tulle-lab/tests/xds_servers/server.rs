//! The xDS server of `tools/xds-server` (go-control-plane) as a process, and the resources it is
//! given.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::tool;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    output: PathBuf,
}

impl Server {
    /// Starts one at `address`.
    pub async fn start(name: &str, address: SocketAddr, directory: &Path) -> Server {
        let output = directory.join(format!("{name}.events"));
        let mut command = Command::new(tool("xds-server").unwrap());
        command.args(["--listen", &address.to_string()]).stdin(Stdio::piped());
        let errors = File::create(directory.join(format!("{name}.err"))).unwrap();
        command.stdout(File::create(&output).unwrap()).stderr(errors);
        let server = Server { child: command.spawn().unwrap(), output };
        server.event("a listening server", |event| event["event"] == "listening").await;
        server
    }

    /// Serves `resources` from now on.
    pub async fn set(&mut self, version: &str, resources: &[Value]) {
        let line = json!({ "version": version, "resources": resources });
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let about = |event: &Value| {
            event["version"] == version
                && ["set", "refused"].contains(&event["event"].as_str().unwrap())
        };
        let event = self.event("a configuration", about).await;
        assert_eq!(event["event"], "set", "{event}");
    }

    /// Everything that happened so far.
    pub fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.output).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first event that `is_it`, waited for.
    pub async fn event(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = until(what, SOON, || async { self.events().into_iter().find(|e| is_it(e)) });
        found.await.unwrap_or_else(|error| panic!("{error}\n{:#?}", self.events()))
    }

    /// The names of resources of a type that were sent.
    pub fn sent(&self) -> Vec<(String, String)> {
        let names = |event: Value| {
            let kind = kind(&event);
            let names = event["names"].as_array().cloned().unwrap_or_default();
            names.into_iter().map(move |name| (kind.clone(), name.as_str().unwrap().to_owned()))
        };
        let responses = self.events().into_iter().filter(|event| event["event"] == "response");
        responses.flat_map(names).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only fails if it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last word of the type of an event.
pub fn kind(event: &Value) -> String {
    event["type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned()
}

const ADS: &str = "{\"ads\": {}, \"resource_api_version\": \"V3\"}";

fn ads() -> Value {
    serde_json::from_str(ADS).unwrap()
}

/// A cluster whose endpoints come over ADS.
pub fn cluster(name: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": { "eds_config": ads() },
    })
}

/// The endpoints of a cluster.
pub fn endpoints(name: &str, at: SocketAddr) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
    })
}

/// A listener whose routes come over ADS.
pub fn listener(name: &str, at: SocketAddr, routes: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": address(at),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.\
                          http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "rds": { "route_config_name": routes, "config_source": ads() },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type":
                            "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    },
                }],
            },
        }] }],
    })
}

/// Routes that send everything to one cluster.
pub fn routes(name: &str, cluster: &str) -> Value {
    matching(name, &json!({ "prefix": "/" }), cluster)
}

/// Routes that send what matches to one cluster.
pub fn matching(name: &str, matches: &Value, cluster: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": matches, "route": { "cluster": cluster } }],
        }],
    })
}

fn address(at: SocketAddr) -> Value {
    let socket = json!({ "address": at.ip().to_string(), "port_value": at.port() });
    json!({ "socket_address": socket })
}
