//! The world task: the single place where the newest configuration and the newest registry become
//! one [`World`], which is then published.
//!
//! Level-triggered: whatever came while a world was being built is in the next one. Nothing waits
//! on purpose (files settle in [`crate::ingest::files`]), so an endpoint is published as soon as
//! it is known.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tulle_config::istio::HostName;
use tulle_config::world::{Health, InstancePort, WorkloadInstance};

use crate::ingest::objects::Configuration;
use crate::ingest::registry::{Entry, Port, SharedRegistry};
use crate::publish::{Cause, Publisher};
use crate::stop::Stop;

/// Builds worlds and publishes them.
pub struct Builder {
    /// Newest configuration.
    pub configuration: watch::Receiver<Arc<Configuration>>,
    /// The registry.
    pub registry: Arc<SharedRegistry>,
    /// Where worlds go.
    pub publisher: Arc<Publisher>,
    /// Told which version of the registry is in force.
    pub published: watch::Sender<Option<u64>>,
}

impl Builder {
    /// Builds a world for each change until `stop`.
    pub async fn run(mut self, stop: Stop) {
        let mut versions = self.registry.versions();
        versions.mark_changed();
        loop {
            let changed = tokio::select! {
                changed = self.configuration.changed() => changed.map(|()| Cause::Configuration),
                changed = versions.changed() => changed.map(|()| Cause::Registry),
                () = stop.requested() => return,
            };
            let Ok(mut cause) = changed else {
                // A source is gone: nothing can change any more.
                return stop.requested().await;
            };
            if self.configuration.has_changed().unwrap_or_default() {
                cause = Cause::Configuration;
            }
            self.configuration.mark_unchanged();
            versions.mark_unchanged();
            self.build(cause).await;
        }
    }

    /// Builds the world of this moment and publishes it.
    pub async fn build(&self, cause: Cause) {
        let configuration = Arc::clone(&self.configuration.borrow());
        let (version, entries) = self.registry.entries();
        let publisher = Arc::clone(&self.publisher);
        // Off the event loop: comparing and dropping large worlds takes its time.
        let built = tokio::task::spawn_blocking(move || {
            let objects = configuration.objects.values().cloned();
            let instances = entries.iter().map(|entry| Arc::new(instance(entry)));
            let instances: Vec<_> = instances.collect();
            let world = Arc::new(publisher.world().next(objects, instances));
            publisher.replace(world, cause, Instant::now());
        });
        match built.await {
            Ok(()) => {
                self.published.send_replace(Some(version));
            }
            Err(panic) => tracing::error!(%panic, "this configuration cannot be used; the last is"),
        }
    }
}

/// A registered workload in the words of the configuration.
fn instance(entry: &Entry) -> WorkloadInstance {
    let workload = &entry.workload;
    let (name, offer) = (&workload.name, &workload.offer);
    let labels = offer.labels.iter();
    let account = &workload.service_account;
    WorkloadInstance {
        namespace: Arc::clone(&name.namespace),
        name: Arc::clone(&name.name),
        address: offer.address,
        labels: labels.map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        // It was checked when it was registered.
        service: HostName::parse(&offer.service).ok(),
        ports: offer.ports.iter().map(port).collect(),
        health: if entry.ready { Health::Ready } else { Health::NotReady },
        service_account: (!account.is_empty()).then(|| Arc::clone(account)),
        weight: 1,
        locality: None,
    }
}

fn port(port: &Port) -> InstancePort {
    InstancePort {
        name: port.declaring_name(),
        number: port.number.get(),
        listen: port.target(),
        app: port.application(),
    }
}
