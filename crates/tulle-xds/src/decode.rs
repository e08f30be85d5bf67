//! Messages become values of the model, or findings with the path of the field.
//!
//! A resource is taken whole or not at all. Each message is destructured by
//! [`fields!`](crate::fields), so that every field is used, refused or warned about; after that
//! invalid states do not exist. Encoding is the other direction and lives in [`crate::encode`];
//! `decode(encode(x)) == x` for every value the model can hold.
//!
//! Order: `listener` → `chain` → `http` → `filter`, `route` → `action`; `cluster` → `endpoint`;
//! `bootstrap` for all of them in one file.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tulle_model::resource::{Resource, ResourceKind};

use crate::fields::{At, Diagnostics, Finding, Sink, UnknownFields};
use crate::proto::Packed;
use crate::proto::envoy::config as pb;

mod access_log;
mod action;
mod balance;
mod bootstrap;
mod chain;
mod cluster;
mod edits;
mod endpoint;
mod filter;
mod http;
mod listener;
mod matcher;
pub(crate) mod metadata;
mod outlier;
mod protocol;
mod reference;

mod retry;
mod route;
mod tls;
mod unknown;
pub(crate) mod upstream;
mod value;

pub use bootstrap::{Admin, Ads, Bootstrap, Node};
pub use reference::REFERENCE;

/// A value that was accepted.
#[derive(Clone, Debug)]
pub struct Decoded<T> {
    /// The value.
    pub value: T,
    /// What of it has no effect.
    pub warnings: Vec<Finding>,
    /// Warnings beyond [`crate::fields::MAX_FINDINGS`].
    pub omitted: usize,
}

/// The type URL of resources of a kind.
#[must_use]
pub fn type_url(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Listener => pb::listener::v3::Listener::TYPE_URL,
        ResourceKind::Routes => pb::route::v3::RouteConfiguration::TYPE_URL,
        ResourceKind::Cluster => pb::cluster::v3::Cluster::TYPE_URL,
        ResourceKind::Endpoints => pb::endpoint::v3::ClusterLoadAssignment::TYPE_URL,
    }
}

/// The kind of resources with a type URL.
#[must_use]
pub fn kind_of(url: &str) -> Option<ResourceKind> {
    ResourceKind::ALL.into_iter().find(|kind| type_url(*kind) == url)
}

/// The name of an encoded resource, also of one that would be refused. `None` where the bytes are
/// no message or have no name.
#[must_use]
pub fn name_of(body: &Bytes) -> Option<String> {
    /// The name is the first field of every kind.
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    let name = Named::decode(body.clone()).ok()?.name;
    (!name.is_empty()).then_some(name)
}

/// Decodes one resource that came over the wire.
///
/// # Errors
/// Why it is refused, with what else was found.
pub fn resource(
    kind: ResourceKind,
    body: &Bytes,
    unknown: UnknownFields,
) -> Result<Decoded<Resource>, Diagnostics> {
    fn read<T: Packed>(body: &Bytes, at: &At<'_>) -> Option<T> {
        match T::decode(body.clone()) {
            Ok(message) => {
                unknown::report(&message, body, at);
                Some(message)
            }
            Err(error) => at.fail(format!("the bytes are no {}: {error}", T::TYPE_URL)),
        }
    }
    collect(Sink::new(unknown), |at| match kind {
        ResourceKind::Listener => {
            listener::listener(read(body, at)?, at).map(Arc::new).map(Resource::Listener)
        }
        ResourceKind::Routes => {
            let routes = route::configuration(read(body, at)?, at)?;
            if routes.name.as_str().is_empty() {
                return at.field("name").fail("is missing");
            }
            Some(Resource::Routes(Arc::new(routes)))
        }
        ResourceKind::Cluster => {
            cluster::cluster(read(body, at)?, at).map(Arc::new).map(Resource::Cluster)
        }
        ResourceKind::Endpoints => {
            endpoint::endpoints(read(body, at)?, at).map(Arc::new).map(Resource::Endpoints)
        }
    })
}

/// Decodes a bootstrap; see [`crate::source`] for reading one out of a file.
///
/// # Errors
/// Why it is refused, with what else was found.
pub fn bootstrap(message: pb::bootstrap::v3::Bootstrap) -> Result<Decoded<Bootstrap>, Diagnostics> {
    collect(Sink::default(), |at| bootstrap::bootstrap(message, at))
}

fn collect<T>(
    sink: Sink,
    decode: impl FnOnce(&At<'_>) -> Option<T>,
) -> Result<Decoded<T>, Diagnostics> {
    let value = decode(&sink.root());
    let found = sink.into_diagnostics();
    match value {
        Some(value) if found.errors.is_empty() => {
            Ok(Decoded { value, warnings: found.warnings, omitted: found.omitted })
        }
        _ => Err(found),
    }
}

#[cfg(test)]
mod tests;
