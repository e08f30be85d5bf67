//! The control thread's side of the configuration: one snapshot becomes sockets, TLS
//! configurations and what every worker is given.
//!
//! Start and reload are one path: the first configuration is a change from none. Sockets are bound
//! from the moment on that [`Configuration::listen`] is called.

pub mod claims;
pub mod ledger;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

use tokio::sync::watch;
use tokio::time::Instant;
use tulle_model::access_log::AccessLog;
use tulle_model::listener::Listener;
use tulle_model::lookup::Needed;
use tulle_model::name::ListenerName;
use tulle_model::snapshot::{Change, Snapshot};
use tulle_runtime::sockets::{BindError, Sharing, SocketOwner, Wanted};

use crate::access_log::sinks::{OpenSinks, SinkError, Sinks};
use crate::configuration::claims::Claims;
use crate::configuration::ledger::Ledger;
use crate::listener::BoundSocket;
use crate::upstream::dns::Names;
use crate::upstream::{Prepared, Preparer};

/// Everything a worker is given, as one value.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// What was built for it.
    pub prepared: Prepared,
    /// The sockets to accept from.
    pub sockets: Arc<[Arc<BoundSocket>]>,
    /// Where access logs go.
    pub logs: OpenSinks,
    /// Since when nobody could be asked for names.
    pub away_since: Option<Instant>,
    /// Counts what workers were given, from 0.
    pub revision: u64,
}

/// Why a part of a configuration could not be applied; the rest was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A listener's address is not to be had.
    #[error("listener {listener}: {source}")]
    Bind {
        /// The listener.
        listener: ListenerName,
        /// Why.
        #[source]
        source: BindError,
    },
    /// A TLS setting cannot be built.
    #[error("TLS: {0}")]
    Tls(tulle_identity::TlsError),
    /// An access log cannot be written.
    #[error(transparent)]
    Log(SinkError),
}

/// The owner of the configuration and its sockets.
#[derive(Debug)]
pub struct Configuration {
    snapshot: Arc<Snapshot>,
    preparer: Preparer,
    prepared: Prepared,
    names: Names,
    owner: SocketOwner,
    claims: Claims,
    sharing: Sharing,
    bound: Vec<Arc<BoundSocket>>,
    leaving: Vec<Leaving>,
    sinks: Sinks,
    fallback_logs: Vec<AccessLog>,
    ledger: Ledger,
    is_listening: bool,
    away_since: Option<Instant>,
    revision: u64,
    workers: watch::Sender<WorkerConfig>,
}

/// An address that no listener wants any more. It is given up when no worker accepts there:
/// until then a listener that wants it (again) gets the same sockets.
#[derive(Debug)]
struct Leaving {
    listener: ListenerName,
    wanted: SocketAddr,
    /// Kept by those who accept.
    socket: Weak<BoundSocket>,
}

impl Configuration {
    /// Of nothing yet; `on_demand` as in [`Snapshot::new`].
    #[must_use]
    pub fn new(workers: NonZeroUsize, on_demand: bool) -> Self {
        let snapshot = Arc::new(Snapshot::new(on_demand));
        let prepared = Prepared::default();
        let away_since = on_demand.then(Instant::now);
        let first = WorkerConfig {
            snapshot: Arc::clone(&snapshot),
            prepared: prepared.clone(),
            sockets: [].into(),
            logs: OpenSinks::default(),
            away_since,
            revision: 0,
        };
        let sharing = if workers.get() == 1 { Sharing::One } else { Sharing::EachWorker };
        Self {
            snapshot,
            preparer: Preparer::new(workers.get()),
            prepared,
            names: Names::default(),
            owner: SocketOwner::new(workers),
            claims: Claims::default(),
            sharing,
            bound: Vec::new(),
            leaving: Vec::new(),
            sinks: Sinks::default(),
            fallback_logs: Vec::new(),
            ledger: Ledger::default(),
            is_listening: false,
            away_since,
            revision: 0,
            workers: watch::Sender::new(first),
        }
    }

    /// Opens the logs that are written where the configuration names none, and tells the workers.
    pub fn log_to(&mut self, fallback: Vec<AccessLog>) -> Vec<ApplyError> {
        self.fallback_logs = fallback;
        let errors = self.open_logs();
        self.publish();
        errors
    }

    /// Opens the files of access logs again, because somebody has moved them.
    pub fn reopen_logs(&self) {
        self.sinks.reopen();
    }

    /// Lines of access logs that were lost.
    #[must_use]
    pub fn lost_log_lines(&self) -> u64 {
        self.sinks.dropped()
    }

    /// Ends the configuration; workers end by it. When they are gone the access logs are to be
    /// closed.
    #[must_use]
    pub fn end(&mut self) -> Sinks {
        let Self { workers, sinks, bound, owner, .. } =
            std::mem::replace(self, Self::new(NonZeroUsize::MIN, false));
        drop((workers, bound, owner));
        sinks
    }

    /// What is known of resources beside themselves.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is known of resources beside themselves, to be added to.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Begins to listen, now that what is served first is complete. What cannot be bound is
    /// returned and left out.
    pub fn listen(&mut self) -> Vec<ApplyError> {
        self.is_listening = true;
        let errors = self.bind();
        self.publish();
        errors
    }

    /// Whether [`listen`](Self::listen) was called.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.is_listening
    }

    /// Which configuration the workers were given last.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What workers listen to.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<WorkerConfig> {
        self.workers.subscribe()
    }

    /// The configuration now.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The sockets that are bound now.
    #[must_use]
    pub fn sockets(&self) -> &[Arc<BoundSocket>] {
        &self.bound
    }

    /// Applies changes and tells the workers. What cannot be applied is returned and left out.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<ApplyError> {
        let changes: Vec<Change> = changes.into_iter().collect();
        if changes.is_empty() {
            return Vec::new();
        }
        let touches_listeners = changes.iter().any(concerns_listener);
        self.ledger.note(&changes);
        self.snapshot = Arc::new(self.snapshot.with(changes));
        let mut errors = self.prepare();
        if touches_listeners {
            errors.extend(self.open_logs());
            if self.is_listening {
                errors.extend(self.bind());
            }
        }
        self.publish();
        errors
    }

    fn open_logs(&mut self) -> Vec<ApplyError> {
        let errors = self.sinks.sync(&self.snapshot, &self.fallback_logs);
        errors.into_iter().map(ApplyError::Log).collect()
    }

    /// Takes on what names resolve to now, and tells the workers.
    pub fn resolved(&mut self, names: &Names) {
        self.names = Arc::clone(names);
        for error in self.prepare() {
            tracing::warn!("{error}");
        }
        self.publish();
    }

    /// Takes note of whether there is somebody who can be asked for names; workers are told if that
    /// is new.
    pub fn set_reachable(&mut self, reachable: bool) {
        if reachable == self.away_since.is_some() {
            self.away_since = (!reachable).then(Instant::now);
            self.publish();
        }
    }

    /// These listeners are removed together with what comes next; those of the bootstrap stay,
    /// whatever a server says.
    pub fn removes(&mut self, names: impl IntoIterator<Item = ListenerName>) {
        let is_fixed = |name: &ListenerName| self.ledger.is_fixed(&Needed::Listener(name.clone()));
        self.claims.removes(names.into_iter().filter(|name| !is_fixed(name)));
    }

    /// Takes the addresses of a listener that came, until it is in force. One that cannot have them
    /// is refused before anything depends on it.
    ///
    /// # Errors
    /// The field of the address, why not, and what to do.
    pub fn claim(&mut self, listener: &Arc<Listener>) -> Result<(), String> {
        self.claims.enter(listener, &self.snapshot, &self.owner)
    }

    /// Gives up the addresses of listeners that came and will not be in force any more.
    pub fn drop_claims(&mut self) {
        self.claims.prune();
        self.release();
    }

    fn prepare(&mut self) -> Vec<ApplyError> {
        let (prepared, errors) = self.preparer.prepare(&self.snapshot, &self.names);
        self.prepared = prepared;
        errors.into_iter().map(ApplyError::Tls).collect()
    }

    fn publish(&mut self) {
        self.revision += 1;
        self.workers.send_replace(WorkerConfig {
            snapshot: Arc::clone(&self.snapshot),
            prepared: self.prepared.clone(),
            sockets: self.bound.clone().into(),
            logs: self.sinks.open(),
            away_since: self.away_since,
            revision: self.revision,
        });
    }

    /// Binds what is not bound, gives up what no listener wants any more.
    fn bind(&mut self) -> Vec<ApplyError> {
        let (mut bound, mut errors) = (Vec::new(), Vec::new());
        self.owner.redeem(self.claims.redeem(&self.snapshot));
        for listener in self.snapshot.listeners() {
            for address in &listener.bind {
                let wanted = Wanted {
                    owner: listener.name.as_str(),
                    address: *address,
                    backlog: listener.backlog,
                    sharing: self.sharing,
                };
                match self.owner.bind(wanted) {
                    Ok(sockets) => bound.push(self.kept_or(BoundSocket {
                        listener: listener.name.clone(),
                        wanted: *address,
                        address: sockets.address,
                        sockets: sockets.listeners,
                    })),
                    Err(source) => {
                        errors.push(ApplyError::Bind { listener: listener.name.clone(), source })
                    }
                }
            }
        }
        for old in std::mem::replace(&mut self.bound, bound) {
            if !self.bound.iter().any(|now| is_same(now, &old)) {
                tracing::info!(listener = %old.listener, address = %old.address, "it drains");
                let (listener, wanted) = (old.listener.clone(), old.wanted);
                let socket = Arc::downgrade(&old);
                self.leaving.push(Leaving { listener, wanted, socket });
            }
        }
        errors
    }

    /// Gives up the addresses of listeners that left where nobody accepts any more, and none that
    /// came is going to.
    pub fn release(&mut self) {
        let Self { leaving, owner, bound, claims, .. } = self;
        leaving.retain(|left| {
            let over = left.socket.strong_count() == 0 && !claims.want(left.wanted);
            let wanted = |socket: &Arc<BoundSocket>| {
                socket.wanted == left.wanted
                    && (left.wanted.port() != 0 || socket.listener == left.listener)
            };
            if over && !bound.iter().any(wanted) {
                owner.release(left.listener.as_str(), left.wanted);
            }
            !over
        });
    }

    /// The socket as it was handed out before, if it was.
    fn kept_or(&self, socket: BoundSocket) -> Arc<BoundSocket> {
        let kept = self.bound.iter().find(|old| is_same(old, &socket));
        kept.map_or_else(|| Arc::new(socket), Arc::clone)
    }
}

fn is_same(a: &BoundSocket, b: &BoundSocket) -> bool {
    a.listener == b.listener && a.address == b.address
}

fn concerns_listener(change: &Change) -> bool {
    match change {
        Change::Put(resource, _) => {
            matches!(resource, tulle_model::resource::Resource::Listener(_))
        }
        Change::Alias(..) => false,
        Change::Forget(need) | Change::Absent(need, _) => matches!(need, Needed::Listener(_)),
    }
}

#[cfg(test)]
mod tests {
    use tulle_model::resource::Resource;

    use super::*;

    fn listener(name: &str) -> Arc<Listener> {
        let mut listener = Listener::new(name.into());
        listener.bind = vec![([127, 0, 0, 1], 1).into()];
        Arc::new(listener)
    }

    #[test]
    fn the_address_of_a_listener_that_is_removed_is_free_and_that_of_the_bootstrap_never() {
        for is_fixed in [false, true] {
            let mut configuration = Configuration::new(NonZeroUsize::MIN, false);
            let first = Resource::Listener(listener("first"));
            assert!(configuration.apply([Change::Put(first, Vec::new())]).is_empty());
            if is_fixed {
                configuration.ledger_mut().fix([Needed::Listener("first".into())]);
            }
            configuration.removes(["first".into()]);
            let owner = configuration.claims.owner(
                &"second".into(),
                ([127, 0, 0, 1], 1).into(),
                &configuration.snapshot,
            );
            assert_eq!(owner.is_some(), is_fixed);
        }
    }
}
