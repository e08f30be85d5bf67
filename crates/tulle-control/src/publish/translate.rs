//! The seam between publishing and translating.

use std::collections::BTreeSet;

use tulle_config::world::{Query, World};
use tulle_xds::session::message::Name;
use tulle_xds::session::server::Served;

use super::cache::Key;
use crate::node::Node;

/// As whom resources are looked at.
pub type Client = Node;

/// Computes resources from a world.
pub trait Translate: Send + Sync {
    /// What `key` stands for in `world`, for `client`.
    fn translate(&self, world: &World, key: &Key, client: &Client) -> Translation;
}

/// An answer and what it depends on.
pub struct Translation {
    /// The resource, if there is one.
    pub served: Option<Served>,
    /// For a wildcard: the names it stands for.
    pub names: Vec<Name>,
    /// Questions asked of the world, also those that found nothing.
    pub queries: BTreeSet<Query>,
    /// Whether another client would have been answered the same.
    pub same_for: Box<dyn Fn(&Client) -> bool + Send>,
}
