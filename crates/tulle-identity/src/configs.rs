//! Every TLS configuration that a snapshot needs, built once and shared by all workers.
//!
//! A setting is identified by its value. Files are read when a setting is first seen.

use std::collections::HashMap;
use std::sync::Arc;

use tulle_model::snapshot::Snapshot;
use tulle_model::tls::{DownstreamTls, UpstreamTls};

use crate::{ClientTls, ServerTls, TlsError};

/// The configurations of one snapshot. Cheap to clone; immutable.
#[derive(Clone, Debug, Default)]
pub struct TlsConfigs {
    servers: Arc<Table<DownstreamTls, ServerTls>>,
    clients: Arc<Table<UpstreamTls, ClientTls>>,
}

impl TlsConfigs {
    /// What `snapshot` needs, taking over what is already built. A setting that cannot be built
    /// is left out and its error returned; what uses it must fail, never fall back to plain
    /// text. Reads files: not for a worker.
    #[must_use]
    pub fn next(&self, snapshot: &Snapshot) -> (Self, Vec<TlsError>) {
        let mut errors = Vec::new();
        let chains = snapshot.listeners().flat_map(|listener| listener.all_chains());
        let servers = chains.filter_map(|chain| chain.tls.as_ref());
        let clients = snapshot.clusters().filter_map(|cluster| cluster.tls.as_ref());
        let next = Self {
            servers: Arc::new(self.servers.next(servers, ServerTls::new, &mut errors)),
            clients: Arc::new(self.clients.next(clients, ClientTls::new, &mut errors)),
        };
        (next, errors)
    }

    /// What was built for `tls`, a setting of the snapshot.
    #[must_use]
    pub fn server(&self, tls: &Arc<DownstreamTls>) -> Option<&Arc<ServerTls>> {
        self.servers.find(tls)
    }

    /// What was built for `tls`, a setting of the snapshot.
    #[must_use]
    pub fn client(&self, tls: &Arc<UpstreamTls>) -> Option<&Arc<ClientTls>> {
        self.clients.find(tls)
    }
}

/// What was built from settings.
#[derive(Debug)]
struct Table<S, B> {
    /// By the address of the setting, which is kept alive so that its address means it.
    by_address: HashMap<usize, Entry<S, B>>,
    /// By how the setting prints, which is the same for equal ones.
    by_text: HashMap<String, Vec<Entry<S, B>>>,
}

/// A setting and what was built from it.
type Entry<S, B> = (Arc<S>, Arc<B>);

impl<S, B> Default for Table<S, B> {
    fn default() -> Self {
        Self { by_address: HashMap::new(), by_text: HashMap::new() }
    }
}

fn address<S>(setting: &Arc<S>) -> usize {
    Arc::as_ptr(setting).addr()
}

impl<S: PartialEq + std::fmt::Debug, B> Table<S, B> {
    fn find(&self, setting: &Arc<S>) -> Option<&Arc<B>> {
        self.by_address.get(&address(setting)).map(|(_, built)| built)
    }

    fn equal(&self, text: &str, setting: &S) -> Option<&Arc<B>> {
        let mut candidates = self.by_text.get(text)?.iter();
        candidates.find(|(known, _)| **known == *setting).map(|(_, built)| built)
    }

    fn next<'a>(
        &self,
        settings: impl Iterator<Item = &'a Arc<S>>,
        build: impl Fn(&S) -> Result<B, TlsError>,
        errors: &mut Vec<TlsError>,
    ) -> Self
    where
        S: 'a,
    {
        let mut next = Self::default();
        for setting in settings {
            if next.find(setting).is_some() {
                continue;
            }
            let text = format!("{setting:?}");
            let known = next.equal(&text, setting).or_else(|| self.equal(&text, setting));
            match known.map_or_else(|| build(setting).map(Arc::new), |built| Ok(Arc::clone(built)))
            {
                Ok(built) => next.insert(setting, text, built),
                Err(error) => errors.push(error),
            }
        }
        next
    }

    fn insert(&mut self, setting: &Arc<S>, text: String, built: Arc<B>) {
        let entry = (Arc::clone(setting), built);
        self.by_address.insert(address(setting), entry.clone());
        let equal = self.by_text.entry(text).or_default();
        if !equal.iter().any(|(known, _)| *known == *setting) {
            equal.push(entry);
        }
    }
}

#[cfg(test)]
mod tests;
