//! Whether the process takes traffic, and whether it is fit to: the control thread watches its
//! workers, the drain and panics, and tells the agent.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::watch;
use tulle_runtime::drain::Phase;
use tulle_runtime::drain::driver::DrainHandle;
use tulle_runtime::panic::{PanicPolicy, Verdict};
use tulle_runtime::readiness::{Readiness, ReadyGuard};

use crate::agent::Condition;
use crate::app::mesh::{Mesh, takes_in};
use crate::app::reports::Reports;
use crate::configuration::Configuration;
use crate::discovery::learner::Progress;
use crate::discovery::node::bindable;
use crate::settings::Settings;

/// Watches over the workers.
#[derive(Debug)]
pub struct Supervision {
    reports: Reports,
    readiness: Readiness,
    condition: watch::Sender<Condition>,
    awaited: Awaited,
    starting: RefCell<Option<ReadyGuard>>,
}

/// What must be bound before traffic is welcome.
#[derive(Debug)]
pub enum Awaited {
    /// What the bootstrap binds, which is bound when listening begins.
    Nothing,
    /// Any listener, or the control plane's word that there is none.
    Any,
    /// These addresses, and that connections to these registered ports are taken in.
    Addresses(Vec<SocketAddr>, Vec<u16>),
}

impl Awaited {
    /// What `settings` make a process wait for.
    #[must_use]
    pub fn by(settings: &Settings, mesh: Option<&Mesh>) -> Self {
        match settings {
            Settings::Envoy(_) => Self::Nothing,
            Settings::Gateway(_) => Self::Any,
            Settings::Sidecar(sidecar) => {
                let mut addresses = bindable(sidecar.outbound.addresses());
                addresses.extend(bindable(&sidecar.inbound_addresses()));
                let ports = mesh.map(|mesh| mesh.inbound.clone()).unwrap_or_default();
                Self::Addresses(addresses, ports)
            }
        }
    }
}

impl Supervision {
    /// Of a process that has just begun, and is not ready by it.
    #[must_use]
    pub fn new(
        awaited: Awaited,
        reports: Reports,
        readiness: Readiness,
        condition: watch::Sender<Condition>,
    ) -> Self {
        let starting = readiness.block("listeners are not bound yet");
        Self { reports, readiness, condition, awaited, starting: RefCell::new(Some(starting)) }
    }

    /// Follows the workers until they panic too often.
    pub async fn watch(&self, configuration: &RefCell<Configuration>, progress: &Progress) {
        let mut policy = PanicPolicy::default();
        let mut noted: u64 = 0;
        loop {
            if self.starting.borrow().is_some()
                && self.is_complete(&configuration.borrow(), progress)
            {
                drop(self.starting.take());
                tracing::info!("ready");
            }
            configuration.borrow_mut().release();
            while noted < self.reports.panics() {
                noted += 1;
                if policy.note(Instant::now()) == Verdict::GiveUp {
                    return;
                }
            }
            tokio::select! {
                () = self.reports.changed() => {}
                () = progress.listeners_known(), if !progress.knows_listeners() => {}
            }
        }
    }

    /// Whether every awaited address is bound and every worker accepts there.
    fn is_complete(&self, configuration: &Configuration, progress: &Progress) -> bool {
        let sockets = configuration.sockets();
        let bound = match &self.awaited {
            Awaited::Nothing => true,
            Awaited::Any => !sockets.is_empty() || progress.knows_listeners(),
            Awaited::Addresses(addresses, ports) => {
                let is_bound =
                    |address: &SocketAddr| sockets.iter().any(|socket| socket.wanted == *address);
                addresses.iter().all(is_bound) && takes_in(configuration.snapshot(), ports)
            }
        };
        configuration.is_listening() && bound && self.reports.all_serve(configuration.revision())
    }

    /// Not ready any more, for as long as the guard lives.
    pub fn give_up(&self) -> ReadyGuard {
        self.readiness.block("panics are too many")
    }

    /// Tells the agent each change; never comes back.
    pub async fn tell(&self, drain: &DrainHandle) {
        let (mut ready, mut views) = (self.readiness.changes(), drain.views());
        loop {
            let draining = views.borrow_and_update().phase > Phase::Serving;
            let now = match (draining, *ready.borrow_and_update()) {
                (true, _) => Condition::Draining,
                (false, true) => Condition::Ready,
                (false, false) => Condition::Starting,
            };
            self.condition.send_if_modified(|told| {
                // Whoever has said that it ends does not come back.
                let tells = *told != now && *told != Condition::Draining;
                if tells {
                    *told = now;
                }
                tells
            });
            tokio::select! {
                // Both senders live as long as the process; one that is gone says nothing more.
                Ok(()) = ready.changed() => {}
                Ok(()) = views.changed() => {}
                else => std::future::pending().await,
            }
        }
    }
}
