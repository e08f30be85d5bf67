//! Istio's standard metrics: who called whom, and what came of it.
//!
//! Reference: Istio "Standard metrics". Label sets are interned: one handle for each pair of peers,
//! which keeps one series for each outcome.

pub mod handles;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tulle_model::cluster::PeerMetadata;
use tulle_model::flag::ResponseFlags;
use tulle_model::name::ClusterName;
use tulle_runtime::metrics;
use tulle_runtime::telemetry::{BUCKETS, Local};

use super::milliseconds;

/// What stands where something is not known.
const UNKNOWN: &str = "unknown";
/// Istio's revision of a workload that names none.
const LATEST: &str = "latest";

metrics! {
    /// Of the requests of one outcome between two peers.
    pub struct RequestSeries(Istio, [
        "reporter",
        "source_workload", "source_canonical_service", "source_canonical_revision",
        "source_workload_namespace", "source_principal", "source_app", "source_version",
        "source_cluster",
        "destination_workload", "destination_workload_namespace", "destination_principal",
        "destination_app", "destination_version", "destination_service",
        "destination_canonical_service", "destination_canonical_revision",
        "destination_service_name", "destination_service_namespace", "destination_cluster",
        "request_protocol", "connection_security_policy",
        "response_code", "grpc_response_status", "response_flags"
    ]) {
        counter requests = "istio_requests_total", "Requests.";
        histogram duration(BUCKETS) = "istio_request_duration_milliseconds",
            "Duration of requests, milliseconds.";
        histogram request_bytes(BUCKETS) = "istio_request_bytes", "Size of requests' bodies.";
        histogram response_bytes(BUCKETS) = "istio_response_bytes", "Size of answers' bodies.";
    }
}

metrics! {
    /// Of the TCP connections of one outcome between two peers.
    pub struct ConnectionSeries(Istio, [
        "reporter",
        "source_workload", "source_canonical_service", "source_canonical_revision",
        "source_workload_namespace", "source_principal", "source_app", "source_version",
        "source_cluster",
        "destination_workload", "destination_workload_namespace", "destination_principal",
        "destination_app", "destination_version", "destination_service",
        "destination_canonical_service", "destination_canonical_revision",
        "destination_service_name", "destination_service_namespace", "destination_cluster",
        "request_protocol", "connection_security_policy",
        "response_flags"
    ]) {
        counter sent_bytes = "istio_tcp_sent_bytes_total", "Bytes sent to the client.";
        counter received_bytes = "istio_tcp_received_bytes_total",
            "Bytes received from the client.";
        counter opened = "istio_tcp_connections_opened_total", "Connections opened.";
        counter closed = "istio_tcp_connections_closed_total", "Connections closed.";
    }
}

/// Labels that do not depend on what came of a request.
const PEER_LABELS: usize = 22;

/// Which side counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's sidecar, or a gateway.
    Source,
    /// The server's sidecar.
    Destination,
}

/// The protocol of a request or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
    /// Anything else.
    Tcp,
}

/// How a connection is secured, as the destination knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// The source does not say.
    Unknown,
    /// Plain text.
    None,
    /// Mutual TLS.
    MutualTls,
}

/// Somebody at one end. Empty fields are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    /// What is known of the workload.
    pub metadata: Arc<PeerMetadata>,
    /// Its identity (`spiffe://…`).
    pub principal: Arc<str>,
}

/// The service that was called. Empty fields are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Its host, or the authority for one that is not in the mesh.
    pub host: Arc<str>,
    /// Its short name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
}

/// Where a request or connection went.
#[derive(Clone, Copy, Debug)]
pub struct Called<'c> {
    /// What is counted of it; of a cluster or of nobody, where no endpoint was chosen.
    pub handles: &'c handles::Handles,
    /// Whom the endpoint belongs to.
    pub endpoint: &'c Arc<PeerMetadata>,
    /// Its cluster.
    pub cluster: &'c ClusterName,
    /// The endpoint's host name: of an application behind its own sidecar, the service that is
    /// called there.
    pub host: &'c str,
}

/// Who called whom, and how: the key of a handle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peers {
    /// Which side counts.
    pub reporter: Reporter,
    /// The caller.
    pub source: Peer,
    /// The endpoint.
    pub destination: Peer,
    /// The service.
    pub service: Service,
    /// The protocol.
    pub protocol: Protocol,
    /// The security of the connection.
    pub security: Security,
}

impl Peers {
    /// The values of the labels in the order of the series.
    fn labels(&self) -> [&str; PEER_LABELS] {
        let (source, destination) = (&self.source, &self.destination);
        let (from, to) = (&source.metadata, &destination.metadata);
        [
            match self.reporter {
                Reporter::Source => "source",
                Reporter::Destination => "destination",
            },
            workload(from),
            canonical_service(from),
            canonical_revision(from),
            known(&from.namespace),
            known(&source.principal),
            label(from, &["app"]).unwrap_or(UNKNOWN),
            label(from, &["version"]).unwrap_or(UNKNOWN),
            known(&from.cluster),
            workload(to),
            known(&to.namespace),
            known(&destination.principal),
            label(to, &["app"]).unwrap_or(UNKNOWN),
            label(to, &["version"]).unwrap_or(UNKNOWN),
            known(&self.service.host),
            canonical_service(to),
            canonical_revision(to),
            known(&self.service.name),
            known(&self.service.namespace),
            known(&to.cluster),
            match self.protocol {
                Protocol::Http => "http",
                Protocol::Grpc => "grpc",
                Protocol::Tcp => "tcp",
            },
            match self.security {
                Security::Unknown => UNKNOWN,
                Security::None => "none",
                Security::MutualTls => "mutual_tls",
            },
        ]
    }
}

fn known(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

fn label<'a>(peer: &'a PeerMetadata, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| peer.labels.get(*name)).map(|value| &**value)
}

/// What instances that come and go have in common, so that their number is not that of the series;
/// its own name for one that does not say.
fn workload(peer: &PeerMetadata) -> &str {
    label(peer, &["service.istio.io/workload-name"]).unwrap_or_else(|| known(&peer.workload))
}

fn canonical_service(peer: &PeerMetadata) -> &str {
    let names = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    label(peer, &names).unwrap_or_else(|| workload(peer))
}

fn canonical_revision(peer: &PeerMetadata) -> &str {
    let names = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    let otherwise = if peer.workload.is_empty() { UNKNOWN } else { LATEST };
    label(peer, &names).unwrap_or(otherwise)
}

/// What came of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutcome {
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// gRPC status, for gRPC.
    pub grpc_status: Option<u32>,
    /// Flags.
    pub flags: ResponseFlags,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// Body bytes of the request.
    pub request_bytes: u64,
    /// Body bytes of the answer.
    pub response_bytes: u64,
}

/// Counting requests between two peers.
#[derive(Debug)]
pub struct IstioHttp {
    peers: Peers,
    local: Local,
    outcomes: RefCell<Vec<(OutcomeKey, RequestSeries)>>,
}

type OutcomeKey = (u16, Option<u32>, ResponseFlags);

impl IstioHttp {
    pub(super) fn new(local: Local, peers: Peers) -> Self {
        Self { peers, local, outcomes: RefCell::default() }
    }

    /// Counts one request at its end.
    pub fn count(&self, outcome: &RequestOutcome) {
        let key = (outcome.status, outcome.grpc_status, outcome.flags);
        let mut outcomes = self.outcomes.borrow_mut();
        let index = match outcomes.iter().position(|(known, _)| *known == key) {
            Some(index) => index,
            None => {
                outcomes.push((key, self.series(key)));
                outcomes.len() - 1
            }
        };
        let (_, series) = &outcomes[index];
        series.requests().inc();
        series.duration().observe(milliseconds(outcome.duration));
        series.request_bytes().observe(outcome.request_bytes as f64);
        series.response_bytes().observe(outcome.response_bytes as f64);
    }

    fn series(&self, (status, grpc_status, flags): OutcomeKey) -> RequestSeries {
        let status = status.to_string();
        let grpc_status = grpc_status.map_or(String::new(), |status| status.to_string());
        let flags = flags.to_string();
        let mut labels = self.peers.labels().to_vec();
        labels.extend([&*status, &*grpc_status, &*flags]);
        RequestSeries::new(&self.local, &labels)
    }
}

/// Counting TCP connections between two peers.
#[derive(Debug)]
pub struct IstioTcp {
    peers: Peers,
    local: Local,
    outcomes: RefCell<Vec<(ResponseFlags, ConnectionSeries)>>,
}

impl IstioTcp {
    pub(super) fn new(local: Local, peers: Peers) -> Self {
        Self { peers, local, outcomes: RefCell::default() }
    }

    /// The series of connections with these flags: none while one is open.
    #[must_use]
    pub fn with_flags(&self, flags: ResponseFlags) -> ConnectionSeries {
        let mut outcomes = self.outcomes.borrow_mut();
        if let Some((_, series)) = outcomes.iter().find(|(known, _)| *known == flags) {
            return series.clone();
        }
        let text = flags.to_string();
        let mut labels = self.peers.labels().to_vec();
        labels.push(&text);
        let series = ConnectionSeries::new(&self.local, &labels);
        outcomes.push((flags, series.clone()));
        series
    }
}
