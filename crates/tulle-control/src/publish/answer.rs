//! One answer: a translated name, encoded once, with everything it depends on.

use std::collections::BTreeSet;

use tulle_config::client::{Client, Reads};
use tulle_config::translate;
use tulle_config::world::{Query, World};
use tulle_model::lookup::Needed;
use tulle_model::resource::ResourceKind;
use tulle_xds::encode;
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::Served;
use xxhash_rust::xxh64::xxh64;

use super::cache::Key;

/// What a name stands for.
#[derive(Debug)]
pub(super) struct Answer {
    served: Option<Served>,
    names: Vec<Name>,
    /// Questions asked of the world, also those that found nothing.
    pub(super) queries: BTreeSet<Query>,
    reads: Reads,
}

impl Answer {
    /// What `key` stands for in `world`, for `client`.
    pub(super) fn compute(world: &World, key: &Key, client: &Client) -> Self {
        let kind = kind(key.rtype);
        if key.is_wildcard() {
            let translate::Names { names, queries, reads } = translate::names(kind, world, client);
            let names = names.into_iter().map(Name::from).collect();
            return Self { served: None, names, queries, reads };
        }
        let needed = Needed::of(kind, &key.name);
        let translate::Translation { resource, queries, reads } =
            translate::translate(&needed, world, client);
        let served = resource.map(|resource| {
            let body = encode::resource(&resource).value;
            Served {
                name: resource.name().into(),
                version: format!("{:016x}", xxh64(&body, 0)).into(),
                body,
            }
        });
        Self { served, names: Vec::new(), queries, reads }
    }

    /// The resource, if there is one.
    pub(super) fn served(&self) -> Option<&Served> {
        self.served.as_ref()
    }

    /// The names a wildcard stands for, sorted.
    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    /// Whether `client` would be answered the same.
    pub(super) fn is_for(&self, client: &Client) -> bool {
        client.answers(&self.reads)
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
