//! `tulle-proxy -c`: an Envoy bootstrap becomes the first changes of the configuration, and whom
//! to ask for the rest.

use std::sync::Arc;
use std::time::Instant;

use tulle_model::resource::Resource;
use tulle_model::snapshot::Change;
use tulle_xds::decode::{self, Ads, Bootstrap};
use tulle_xds::proto::envoy::config::bootstrap::v3 as pb;
use tulle_xds::proto::envoy::config::core::v3 as core;
use tulle_xds::proto::{Any, pack, unpack};
use tulle_xds::session::client::ClientCore;
use tulle_xds::session::delta_client::DeltaClient;
use tulle_xds::session::message::ResourceType;
use tulle_xds::session::on_demand::{Change as Told, OnDemand};
use tulle_xds::session::sotw_client::SotwClient;
use tulle_xds::source::{self, Source};

use crate::discovery::held::{Held, change};
use crate::discovery::server::{ClusterServer, Server};
use crate::discovery::{Discovery, Session, node};
use crate::settings::{BootstrapSource, EnvoySettings};

/// A bootstrap that was read, with what of it has no effect.
#[derive(Debug)]
pub struct LoadedBootstrap {
    /// The bootstrap.
    pub bootstrap: Bootstrap,
    /// One line for each thing that has no effect.
    pub warnings: Vec<String>,
    /// The whole of it as it was read, for `/config_dump`.
    pub packed: Any,
}

impl LoadedBootstrap {
    /// Its node as it was written.
    #[must_use]
    pub fn node(&self) -> Option<core::Node> {
        unpack::<pb::Bootstrap>(&self.packed).ok()?.node
    }
}

/// Reads the bootstrap that the settings name.
///
/// # Errors
/// One line for each mistake: file, line and column, field path, what is wrong.
pub fn load(from: &BootstrapSource) -> Result<LoadedBootstrap, Vec<String>> {
    let mut texts = Vec::new();
    if let Some(path) = &from.path {
        let text = std::fs::read_to_string(path)
            .map_err(|error| vec![format!("{}: {error}", path.display())])?;
        texts.push((path.display().to_string(), text));
    }
    if let Some(yaml) = &from.yaml {
        texts.push(("--config-yaml".to_owned(), yaml.clone()));
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    let loaded = source::load::<pb::Bootstrap>(&sources)
        .map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let place = |finding| loaded.positions.locate(&finding).to_string();
    let packed = pack(&loaded.message);
    match decode::bootstrap(loaded.message) {
        Ok(decoded) => {
            let warnings = decoded.warnings.into_iter().map(place).collect();
            Ok(LoadedBootstrap { bootstrap: decoded.value, warnings, packed })
        }
        Err(found) => Err(found.errors.into_iter().map(place).collect()),
    }
}

/// What the bootstrap configures in place.
pub fn resources(bootstrap: &Bootstrap) -> impl Iterator<Item = Resource> {
    let clusters = bootstrap.clusters.iter().map(Arc::clone).map(Resource::Cluster);
    let listeners = bootstrap.listeners.iter().map(Arc::clone).map(Resource::Listener);
    clusters.chain(listeners)
}

/// Where the rest comes from, if the bootstrap says so, with what can be served before that.
///
/// # Errors
/// What of `dynamic_resources` cannot be followed.
pub fn discovery(
    loaded: &LoadedBootstrap,
    settings: &EnvoySettings,
    seed: u64,
) -> Result<Option<(Discovery, Vec<Change>)>, String> {
    let bootstrap = &loaded.bootstrap;
    let Some(ads) = &bootstrap.ads else { return Ok(None) };
    let node = node::of_bootstrap(loaded.node(), settings);
    if node.id.is_empty() || node.cluster.is_empty() {
        return Err("node: `id` and `cluster` are needed to ask a configuration server; write \
                    them, or give --service-node and --service-cluster"
            .to_owned());
    }
    let cluster = bootstrap.clusters.iter().find(|cluster| cluster.name == ads.cluster);
    let at = "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name";
    let server = match cluster.map(|cluster| ClusterServer::new(ads, cluster)) {
        Some(Ok(server)) => Server::Cluster(server),
        Some(Err(error)) => return Err(format!("{at}: `{}`: {error}", ads.cluster)),
        None => return Err(format!("{at}: `{}` is not there", ads.cluster)),
    };
    let (session, told) = session(bootstrap, ads, seed);
    let unknown = settings.process.unknown_fields();
    let changes = told.into_iter().filter_map(change).collect();
    let discovery = Discovery { server, node, session, state: None, unknown };
    Ok(Some((discovery.with_drains_of(settings.process.drain_time), changes)))
}

fn session(bootstrap: &Bootstrap, ads: &Ads, seed: u64) -> (Session, Vec<Told<Held>>) {
    match ads.delta {
        true => {
            let (session, told) = begin(DeltaClient::new(seed), bootstrap, ads);
            (Session::Delta(Box::new(session)), told)
        }
        false => {
            let (session, told) = begin(SotwClient::new(seed), bootstrap, ads);
            (Session::Sotw(Box::new(session)), told)
        }
    }
}

fn begin<C: ClientCore>(
    core: C,
    bootstrap: &Bootstrap,
    ads: &Ads,
) -> (OnDemand<C, Held>, Vec<Told<Held>>) {
    let now = Instant::now();
    let mut session = OnDemand::new(core);
    let asked = [(ads.clusters, ResourceType::Cluster), (ads.listeners, ResourceType::Listener)];
    for (_, rtype) in asked.into_iter().filter(|(asked, _)| *asked) {
        session.subscribe_wildcard(rtype, true, now);
    }
    if let Some(limit) = ads.initial_fetch {
        session.limit_beginning(now + limit);
    }
    let told = session.provide(resources(bootstrap).map(Held::own).collect(), now);
    (session, told)
}
