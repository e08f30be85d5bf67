//! Values of the model become messages, mechanically and once for every kind of client.
//!
//! Encoding is canonical: equal values have equal bytes in every process, so a hash of them is a
//! version. Defaults that every xDS client shares are left out; those that differ between
//! implementations are written. [`crate::decode`] is the other direction.

use tulle_model::cluster::{Cluster, Endpoints};
use tulle_model::listener::Listener;
use tulle_model::resource::Resource;
use tulle_model::route::RouteConfiguration;

use crate::proto::envoy::config as pb;
use crate::proto::{Any, pack};

mod access_log;
mod action;
mod cluster;
mod edits;
mod http;
mod listener;
mod matcher;
mod metadata;
mod route;
mod tls;
mod value;

/// A resource as it travels.
#[must_use]
pub fn resource(resource: &Resource) -> Any {
    match resource {
        Resource::Listener(value) => pack(&listener(value)),
        Resource::Routes(value) => pack(&routes(value)),
        Resource::Cluster(value) => pack(&cluster(value)),
        Resource::Endpoints(value) => pack(&endpoints(value)),
    }
}

/// A listener.
#[must_use]
pub fn listener(value: &Listener) -> pb::listener::v3::Listener {
    listener::listener(value)
}

/// A route configuration.
#[must_use]
pub fn routes(value: &RouteConfiguration) -> pb::route::v3::RouteConfiguration {
    route::configuration(value)
}

/// A cluster.
#[must_use]
pub fn cluster(value: &Cluster) -> pb::cluster::v3::Cluster {
    cluster::cluster(value)
}

/// The endpoints of a cluster.
#[must_use]
pub fn endpoints(value: &Endpoints) -> pb::endpoint::v3::ClusterLoadAssignment {
    cluster::endpoints(value)
}
