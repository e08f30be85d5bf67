//! `tulle-proxy -c`: an Envoy bootstrap becomes the first changes of the configuration.

use std::sync::Arc;

use tulle_model::resource::Resource;
use tulle_model::snapshot::Change;
use tulle_xds::decode::{self, Bootstrap};
use tulle_xds::proto::envoy::config::bootstrap::v3 as pb;
use tulle_xds::proto::{Any, pack};
use tulle_xds::source::{self, Source};

use crate::settings::BootstrapSource;

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
#[must_use]
pub fn changes(bootstrap: &Bootstrap) -> Vec<Change> {
    let clusters = bootstrap.clusters.iter().map(Arc::clone).map(Resource::Cluster);
    let listeners = bootstrap.listeners.iter().map(Arc::clone).map(Resource::Listener);
    clusters.chain(listeners).map(|resource| Change::Put(resource, Vec::new())).collect()
}
