//! Translation: what one client sees of the world under one name.
//!
//! The last step of the configuration story, and a function: the same name, world and client give
//! the same resource. With it come the questions that were asked of the world and what was read
//! of the client, so that a change recomputes exactly what it concerns and clients that look
//! alike share one answer.
//!
//! Reading order: [`target`] (what a name means) → [`outbound`], [`inbound`], [`gateway`]
//! (listeners) → [`route`] → [`cluster`] → [`endpoint`]; [`envoy`] is what a stock Envoy gets
//! instead of answers on demand.

use std::collections::BTreeSet;

use tulle_model::lookup::Needed;
use tulle_model::resource::{Resource, ResourceKind};

use crate::client::{Assembly, Client, ClientView, Reads, Role};
use crate::world::{Query, View, World};

mod cluster;
mod endpoint;
mod envoy;
mod gateway;
mod inbound;
mod network_filter;
mod outbound;
mod route;
mod target;

pub use cluster::{BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH};
pub use inbound::VIRTUAL_INBOUND;
pub use outbound::VIRTUAL_OUTBOUND;

/// A translated name.
#[derive(Debug, Clone, PartialEq)]
pub struct Translation {
    /// The resource; `None` if nothing of this name exists for the client. Its own name may differ
    /// from the one asked for, which is then an alias of it (listeners only).
    pub resource: Option<Resource>,
    /// The questions asked: [`crate::world::Changes::touches`] says when to ask again.
    pub queries: BTreeSet<Query>,
    /// What was read of the client.
    pub reads: Reads,
}

/// The names a client gets that subscribes to everything of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The names, sorted.
    pub names: Vec<String>,
    /// The questions asked.
    pub queries: BTreeSet<Query>,
    /// What was read of the client.
    pub reads: Reads,
}

/// What is read while one name is translated.
struct Context<'a> {
    world: View<'a>,
    client: ClientView<'a>,
}

impl<'a> Context<'a> {
    fn new(world: &'a World, client: &'a Client) -> Self {
        Context { world: View::new(world), client: ClientView::new(client) }
    }
}

/// The resource that `client` sees under a name.
pub fn translate(name: &Needed, world: &World, client: &Client) -> Translation {
    let context = Context::new(world, client);
    let resource = match name {
        Needed::Listener(name) => listener(&context, name.as_str()),
        Needed::Routes(name) => routes(&context, name.as_str()),
        Needed::Cluster(name) => cluster::translate(&context, name),
        Needed::Endpoints(name) => endpoint::translate(&context, name),
    };
    Translation {
        resource,
        queries: context.world.into_queries(),
        reads: context.client.into_reads(),
    }
}

fn listener(context: &Context<'_>, name: &str) -> Option<Resource> {
    let listener = match (context.client.role(), context.client.assembly()) {
        (Role::Gateway, _) => gateway::listener(context, name),
        (Role::Sidecar, Assembly::Tulle) => match name {
            VIRTUAL_OUTBOUND => outbound::virtual_outbound(context),
            VIRTUAL_INBOUND => inbound::virtual_inbound(context),
            _ => outbound::listener(context, name),
        },
        (Role::Sidecar, Assembly::Envoy) => match name {
            VIRTUAL_OUTBOUND => envoy::virtual_outbound(context),
            VIRTUAL_INBOUND => inbound::virtual_inbound(context),
            _ => envoy::listener(context, name),
        },
    };
    listener.map(|listener| Resource::Listener(listener.into()))
}

fn routes(context: &Context<'_>, name: &str) -> Option<Resource> {
    let routes = match (context.client.role(), context.client.assembly()) {
        (Role::Gateway, _) => gateway::routes(context, name),
        (Role::Sidecar, Assembly::Tulle) => outbound::routes(context, name),
        (Role::Sidecar, Assembly::Envoy) => envoy::routes(context, name),
    };
    routes.map(|routes| Resource::Routes(routes.into()))
}

/// What a subscription to `*` of a kind stands for.
pub fn names(kind: ResourceKind, world: &World, client: &Client) -> Names {
    let context = Context::new(world, client);
    let mut names = match (kind, context.client.role(), context.client.assembly()) {
        (ResourceKind::Listener, Role::Gateway, _) => gateway::listener_names(&context),
        (ResourceKind::Listener, Role::Sidecar, Assembly::Tulle) => bound_names(&context),
        (ResourceKind::Listener, Role::Sidecar, Assembly::Envoy) => {
            let mut names = bound_names(&context);
            names.extend(envoy::listener_names(&context));
            names
        }
        (ResourceKind::Cluster, _, Assembly::Envoy) => envoy::cluster_names(&context),
        _ => Vec::new(),
    };
    names.sort_unstable();
    names.dedup();
    Names { names, queries: context.world.into_queries(), reads: context.client.into_reads() }
}

/// The listeners that a sidecar really binds.
fn bound_names(context: &Context<'_>) -> Vec<String> {
    let bind = context.client.bind();
    let outbound = (!bind.outbound.is_empty()).then(|| VIRTUAL_OUTBOUND.to_owned());
    let inbound = (!bind.inbound.is_empty()).then(|| VIRTUAL_INBOUND.to_owned());
    outbound.into_iter().chain(inbound).collect()
}

#[cfg(test)]
mod tests;
