//! The composition root: everything is made and bound here, then runs until it is told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tulle_config::world::{MeshSettings, OutboundPolicy, World};

use crate::admin::{self, Views};
use crate::agent::{Agents, InForce, Questions};
use crate::analysis::{self, Analysis};
use crate::ingest::files::FileWatch;
use crate::ingest::objects::{Configuration, Objects};
use crate::ingest::registry::SharedRegistry;
use crate::publish::{Cause, Publisher};
use crate::serve::{self, Socket};
use crate::settings::{Endpoint, Settings};
use crate::status::Status;
use crate::stop::StopSource;
use crate::store::directory::Directory;
use crate::store::writer::Writer;
use crate::store::{Nowhere, Store};
use crate::world::Builder;
use crate::xds::Ads;

/// How long streams may take to end when the control plane stops.
pub const STOP_LIMIT: Duration = Duration::from_secs(3);

/// A control plane whose sockets are bound and whose configuration is read.
#[derive(Debug)]
pub struct App {
    xds: Socket,
    admin: TcpListener,
    files: FileWatch,
    configuration: watch::Receiver<Arc<Configuration>>,
    registry: Arc<SharedRegistry>,
    settings: Arc<MeshSettings>,
}

impl App {
    /// Binds every socket and reads everything once.
    ///
    /// # Errors
    /// Something cannot be had; the message says what to do.
    pub async fn bind(settings: Settings) -> anyhow::Result<Self> {
        let xds = Socket::bind(&settings.xds).await;
        let xds = xds.with_context(|| format!("cannot listen on --xds {}", settings.xds))?;
        let admin = TcpListener::bind(settings.admin).await;
        let admin =
            admin.with_context(|| format!("cannot listen on --admin {}", settings.admin))?;
        if let Endpoint::Tcp(address) = settings.xds
            && !address.ip().is_loopback()
        {
            tracing::warn!(%address, "anybody who reaches this address is served (--insecure-xds)");
        }
        let store: Box<dyn Store> = match &settings.state {
            Some(path) => Box::new(Directory::open(path)?),
            None => Box::new(Nowhere),
        };
        let mut objects = Objects::restore(&*store, settings.variables.clone());
        let (registry, writer) = restore_registry(store)?;
        let (publish, configuration) = watch::channel(Arc::new(Configuration::default()));
        let files = FileWatch::start(settings.config, move |files| {
            let configuration = objects.update(files, &writer);
            report(&configuration);
            publish.send_replace(Arc::new(configuration));
        })?;
        let mesh = MeshSettings {
            domain: settings.mesh.domain.into(),
            root_namespace: settings.mesh.root_namespace.into(),
            outbound: OutboundPolicy::AllowAny,
        };
        Ok(Self { xds, admin, files, configuration, registry, settings: Arc::new(mesh) })
    }

    /// Where proxies connect.
    ///
    /// # Errors
    /// The system does not say.
    pub fn xds(&self) -> std::io::Result<Endpoint> {
        self.xds.endpoint()
    }

    /// Where operators ask.
    ///
    /// # Errors
    /// The system does not say.
    pub fn admin(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until `shutdown` ends, then ends every stream.
    ///
    /// # Errors
    /// A socket failed for good.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (source, stop) = StopSource::new();
        let status = Arc::new(Status::default());
        let questions = Arc::new(Questions::default());
        let world = World::new(self.settings, [], []);
        let publisher = Arc::new(Publisher::new(Arc::new(world)));
        let (published_send, published) = watch::channel(None);
        let builder = Builder {
            configuration: self.configuration.clone(),
            registry: Arc::clone(&self.registry),
            publisher: Arc::clone(&publisher),
            published: published_send,
        };
        // The first world is complete before anybody is served: nobody is told that something
        // does not exist because it was not read yet.
        builder.build(Cause::Configuration).await;
        let agents = Agents::new(
            Arc::clone(&self.registry),
            Arc::clone(&questions),
            Arc::clone(&status),
            InForce { registry: published.clone(), publisher: Arc::clone(&publisher) },
            stop.clone(),
        );
        let ads = Ads::new(Arc::clone(&publisher), Arc::clone(&status), stop.clone());
        let (found, findings) = watch::channel(Arc::default());
        let analysis = Analysis {
            publisher: Arc::clone(&publisher),
            built: published.clone(),
            configuration: self.configuration.clone(),
            findings: found,
        };
        let releasing = Arc::clone(&publisher).release_in_time(stop.clone());
        let views = Views {
            configuration: self.configuration,
            findings,
            registry: Arc::clone(&self.registry),
            published,
            publisher,
            status,
            questions,
            waits: Arc::new(Semaphore::new(admin::MAX_WAITS)),
        };
        tracing::info!(xds = %self.xds.endpoint()?, admin = %self.admin.local_addr()?, "serving");
        let mut tasks = JoinSet::new();
        tasks.spawn(endless(builder.run(stop.clone())));
        tasks.spawn(endless(releasing));
        tasks.spawn(endless(analysis.run(stop.clone())));
        tasks.spawn(endless(self.registry.tick(stop.clone())));
        let (xds, admin, ends) = (self.xds, self.admin, (stop.clone(), stop));
        tasks.spawn(async move { Ok(serve::serve(xds, ads, agents, ends.0).await?) });
        tasks.spawn(async move { Ok(admin::serve(admin, views, ends.1).await?) });
        let outcome = supervise(&mut tasks, shutdown).await;
        source.stop();
        finish(tasks).await;
        drop(self.files);
        outcome
    }
}

fn restore_registry(store: Box<dyn Store>) -> std::io::Result<(Arc<SharedRegistry>, Arc<Writer>)> {
    let kept = crate::ingest::registry::load(&*store);
    let writer = Arc::new(Writer::start(store)?);
    let registry = SharedRegistry::restore(kept, Arc::clone(&writer), Instant::now());
    Ok((Arc::new(registry), writer))
}

/// Says what is wrong with the configuration, once for each change.
fn report(configuration: &Configuration) {
    configuration.findings.iter().for_each(analysis::log);
    let (objects, outdated) = (configuration.objects.len(), configuration.outdated.len());
    tracing::info!(objects, outdated, "configuration read");
}

async fn endless(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

/// Waits for the shutdown, or for a task that ends although nobody asked it to.
async fn supervise(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown => {
            tracing::info!("stopping");
            Ok(())
        }
        ended = tasks.join_next() => match ended {
            Some(Ok(outcome)) => outcome.and_then(|()| anyhow::bail!("a task ended early")),
            Some(Err(panic)) => Err(panic).context("a task ended early"),
            None => anyhow::bail!("there is nothing to run"),
        }
    }
}

/// Lets tasks end by themselves for a while.
async fn finish(mut tasks: JoinSet<anyhow::Result<()>>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
    }
}
