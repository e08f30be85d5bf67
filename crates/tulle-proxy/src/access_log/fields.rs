//! What the record of a request or connection has to say, as formats ask for it.

use std::net::SocketAddr;
use std::time::SystemTime;

use tulle_model::flag::ResponseFlag;
use tulle_model::head::{Method, RequestHead};
use tulle_model::route::ClusterChoice;

use super::{DownstreamFields, LogFields, UpstreamFields};
use crate::http::context::Downstream;
use crate::http::exchange::Exchange;
use crate::http::route::Plan;
use crate::record::Record;
use crate::tcp::TcpProgress;
use crate::upstream::{UpstreamCluster, UpstreamEndpoint};

impl<'a> LogFields<'a> {
    /// The fields of a request: at its end for the access log, before that for headers.
    #[must_use]
    pub fn of_exchange(x: &'a Exchange<'_>, hostname: &'a str) -> Self {
        let record = &x.record;
        Self {
            duration: Some(x.since_start()),
            request_duration: record.request_sent_after,
            response_duration: record.answered_after,
            // Of a head that could not be read there is nothing to say.
            request: Some(&x.request).filter(|head| is_read(head)),
            response: Some(&x.response),
            trailers: record.trailers.as_ref(),
            protocol: Some(x.request.version),
            status: record.status,
            details: &record.details,
            flags: record.flags,
            bytes_received: record.request_bytes,
            bytes_sent: record.response_bytes,
            listener: x.cx.listener.name.as_str(),
            routes: record.plan.as_ref().map_or("", |plan| plan.config.name.as_str()),
            route_name: record.plan.as_ref().map_or("", |plan| &plan.route.name),
            origin: record.origin().or(x.cx.listener.origin.as_ref()),
            hostname,
            downstream: DownstreamFields {
                remote: Some(x.caller),
                ..DownstreamFields::of(&x.cx.downstream)
            },
            upstream: UpstreamFields {
                cluster: record
                    .cluster
                    .as_deref()
                    .map_or_else(|| planned_cluster(record), UpstreamCluster::stat_name),
                host: record.endpoint.as_deref().map(host),
                local: record.upstream_local,
                transport_failure: record.transport_failure.as_deref().unwrap_or_default(),
                attempts: record.attempts,
            },
            ..Self::at(record.started_at)
        }
    }

    /// The fields of a connection that was passed through. `endpoint` is the one of `progress`.
    #[must_use]
    pub fn of_connection(
        start: SystemTime,
        downstream: &'a Downstream,
        cluster: &'a UpstreamCluster,
        progress: &TcpProgress,
        endpoint: Option<&'a UpstreamEndpoint>,
    ) -> Self {
        Self {
            duration: start.elapsed().ok(),
            bytes_received: progress.sent.get(),
            bytes_sent: progress.received.get(),
            downstream: DownstreamFields::of(downstream),
            upstream: UpstreamFields {
                cluster: cluster.stat_name(),
                host: endpoint.map(host),
                local: progress.upstream_local.get(),
                transport_failure: "",
                attempts: progress.attempts.get(),
            },
            ..Self::at(start)
        }
    }
}

impl<'a> DownstreamFields<'a> {
    /// Of an accepted connection.
    #[must_use]
    pub fn of(downstream: &'a Downstream) -> Self {
        let peer: SocketAddr = downstream.peer;
        Self {
            connection_id: downstream.id,
            local: Some(downstream.local),
            remote: Some(peer),
            direct_remote: Some(peer),
            server_name: &downstream.server_name,
        }
    }
}

/// The cluster that a request would have gone to, had a fault not been injected.
fn planned_cluster(record: &Record) -> &str {
    let plan = record.plan.as_ref();
    let plan = plan.filter(|_| record.flags.contains(ResponseFlag::FaultInjected));
    let choice = plan.and_then(Plan::forward).map(|forward| &forward.cluster);
    match (plan, choice) {
        (_, Some(ClusterChoice::Cluster(name))) => name.as_str(),
        (Some(plan), Some(ClusterChoice::Weighted(_))) => {
            plan.weighted().map_or("", |cluster| cluster.name.as_str())
        }
        _ => "",
    }
}

/// Whether a request line was read: only CONNECT has no path.
fn is_read(head: &RequestHead) -> bool {
    !head.path().is_empty() || head.method == Method::Connect
}

fn host(endpoint: &UpstreamEndpoint) -> &crate::upstream::Target {
    &endpoint.target
}
