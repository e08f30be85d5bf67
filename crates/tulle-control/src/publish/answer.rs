//! One answer: a translated name, encoded once, with everything it depends on.

use std::collections::BTreeSet;

use tulle_config::client::{self, Client, Read, Reads};
use tulle_config::translate;
use tulle_config::world::{Query, World};
use tulle_model::lookup::Needed;
use tulle_model::resource::{Resource, ResourceKind};
use tulle_xds::encode;
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::Served;
use xxhash_rust::xxh64::xxh64;

use super::cache::Key;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    served: Option<Served>,
    /// What the resource refers to, sorted.
    references: Vec<Key>,
    names: Vec<Name>,
    queries: BTreeSet<Query>,
    reads: Reads,
}

impl Answer {
    /// What `key` stands for in `world`, for `client`.
    pub(super) fn compute(world: &World, key: &Key, client: &Client) -> Self {
        let kind = kind(key.rtype);
        if key.is_wildcard() {
            let translate::Names { names, queries, reads } = translate::names(kind, world, client);
            let names = names.into_iter().map(Name::from).collect();
            return Self { served: None, references: Vec::new(), names, queries, reads };
        }
        let needed = Needed::of(kind, &key.name);
        let translate::Translation { resource, queries, reads } =
            translate::translate(&needed, world, client);
        let references = resource.as_ref().map(Resource::references).unwrap_or_default();
        let mut references: Vec<Key> = references.iter().map(reference).collect();
        references.sort_unstable();
        Self { served: resource.map(serve), references, names: Vec::new(), queries, reads }
    }

    /// The resource, if there is one.
    pub(super) fn served(&self) -> Option<&Served> {
        self.served.as_ref()
    }

    /// The names a wildcard stands for, sorted.
    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    /// Questions asked of the world, also those that found nothing.
    pub(super) fn queries(&self) -> &BTreeSet<Query> {
        &self.queries
    }

    /// What was read of the client, and what it was.
    pub(super) fn reads(&self) -> (Vec<Read>, Vec<client::Answer>) {
        self.reads.iter().map(|(read, answer)| (read.clone(), answer.clone())).unzip()
    }

    /// Whether `client` would be answered the same.
    pub(super) fn is_for(&self, client: &Client) -> bool {
        client.answers(&self.reads)
    }

    /// What this one refers to and `other` does not.
    pub(super) fn references_beyond(&self, other: &Self) -> impl Iterator<Item = &Key> {
        self.references.iter().filter(|key| other.references.binary_search(key).is_err())
    }

    /// Whether it names something that `other` does not.
    pub(super) fn names_more_than(&self, other: &Self) -> bool {
        self.names.iter().any(|name| other.names.binary_search(name).is_err())
    }

    /// With the names of `other` too.
    pub(super) fn with_names_of(mut self, other: &Self) -> Self {
        self.names.extend(other.names.iter().cloned());
        self.names.sort_unstable();
        self.names.dedup();
        self.depending_on(other)
    }

    /// To be computed again when `other` would be.
    pub(super) fn depending_on(mut self, other: &Self) -> Self {
        self.queries.extend(other.queries.iter().cloned());
        self.reads.extend(other.reads.iter().map(|(read, answer)| (read.clone(), answer.clone())));
        self
    }
}

fn serve(resource: Resource) -> Served {
    let body = encode::resource(&resource).value;
    Served {
        name: resource.name().into(),
        version: format!("{:016x}", xxh64(&body, 0)).into(),
        body,
    }
}

fn reference(needed: &Needed) -> Key {
    Key { rtype: rtype(needed.kind()), name: needed.name().into() }
}

fn rtype(kind: ResourceKind) -> ResourceType {
    match kind {
        ResourceKind::Cluster => ResourceType::Cluster,
        ResourceKind::Endpoints => ResourceType::Endpoints,
        ResourceKind::Listener => ResourceType::Listener,
        ResourceKind::Routes => ResourceType::Route,
    }
}

fn kind(rtype: ResourceType) -> ResourceKind {
    match rtype {
        ResourceType::Cluster => ResourceKind::Cluster,
        ResourceType::Endpoints => ResourceKind::Endpoints,
        ResourceType::Listener => ResourceKind::Listener,
        ResourceType::Route => ResourceKind::Routes,
    }
}
