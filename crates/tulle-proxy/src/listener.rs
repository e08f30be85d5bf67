//! Where connections come in: one accept loop for each listening socket of a worker.
//!
//! The request story starts here: accept → [`crate::connection`].

pub mod inspect;
pub mod original_dst;
pub mod presence;
pub mod socket;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tulle_model::name::{Direction, ListenerName};
use tulle_runtime::drain::load::ConnectionGuard;
use tulle_runtime::drain::{Plan, View};
use tulle_runtime::panic;

use crate::connection::{self, Doorway, Incoming};
use crate::listener::presence::Presence;
use crate::listener::socket::{AcceptError, Accepted, accept, listen};
use crate::metrics::envoy::ListenerMetrics;
use crate::worker::Worker;

/// How long accepting rests when the process ran out of file descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A socket that a listener is bound to, with one descriptor for each worker.
#[derive(Debug)]
pub struct BoundSocket {
    /// The listener.
    pub listener: ListenerName,
    /// The address that the listener asked for.
    pub wanted: SocketAddr,
    /// Its address, with the port that the system chose where none was given.
    pub address: SocketAddr,
    /// One for each worker, or one for all.
    pub sockets: Vec<std::net::TcpListener>,
}

/// The accept loops of one worker.
#[derive(Debug)]
pub struct AcceptLoops {
    departure: Plan,
    running: RefCell<HashMap<(ListenerName, SocketAddr), Rc<Presence>>>,
}

impl AcceptLoops {
    /// None yet; those whose listener leaves end by `departure`.
    #[must_use]
    pub fn new(departure: Plan) -> Self {
        Self { departure, running: RefCell::default() }
    }

    /// Starts a loop for each new socket, ends those whose socket is gone; others go on, and so do
    /// their connections.
    ///
    /// # Errors
    /// A socket that cannot be used.
    pub fn sync(&self, worker: &Rc<Worker>, bound: &[Arc<BoundSocket>]) -> io::Result<()> {
        let (mut running, snapshot) = (self.running.borrow_mut(), worker.store.load());
        running.retain(|(name, address), present| {
            let stays =
                bound.iter().any(|socket| socket.listener == *name && socket.address == *address);
            let now = snapshot.listener(name.as_str()).present();
            present.configure(now, worker, self.departure);
            if !stays {
                Rc::clone(present).leave(worker, self.departure);
            }
            stays
        });
        worker.presences.sync(worker, &snapshot, self.departure);
        for socket in bound {
            let key = (socket.listener.clone(), socket.address);
            if running.contains_key(&key) {
                continue;
            }
            let own = socket.sockets.get(worker.index).or_else(|| socket.sockets.first());
            let Some(own) = own else { continue };
            let listener = listen(own.try_clone()?)?;
            let name = socket.listener.clone();
            let metrics = worker.metrics.listener(&socket.address.to_string());
            let present = Rc::<Presence>::default();
            let now = snapshot.listener(name.as_str()).present();
            present.configure(now, worker, self.departure);
            running.insert(key, Rc::clone(&present));
            let worker = Rc::clone(worker);
            let (reports, socket) = (worker.reports.clone(), Arc::clone(socket));
            let accepting = Accepting { worker, listener, name, metrics, present };
            tokio::task::spawn_local(async move {
                accepting.run().await;
                drop(socket);
                reports.let_go();
            });
        }
        Ok(())
    }
}

/// One accept loop.
struct Accepting {
    worker: Rc<Worker>,
    listener: TcpListener,
    name: ListenerName,
    metrics: Rc<ListenerMetrics>,
    present: Rc<Presence>,
}

impl Accepting {
    /// Accepts until the socket breaks, the listener leaves or a drain says that it is to stop:
    /// what has connected by then is accepted, whoever dials later is refused.
    async fn run(self) {
        let name = &self.name;
        let direction = self.direction();
        let mut stopped =
            pin!(self.worker.drain.wait_until(|view: &View| !view.accepts(direction)));
        let mut left = pin!(self.present.left());
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = accept(&self.listener) => accepted,
                () = &mut stopped => return self.refuse_from_now_on().await,
                // Nobody listens any more once all workers closed theirs. Whoever gets the address
                // next may take the socket over, so that it is not shut down.
                () = &mut left => return self.accept_waiting().await,
            };
            match accepted {
                Ok(accepted) => self.serve(accepted),
                Err(AcceptError::Connection(_)) => {}
                Err(AcceptError::Exhausted(error)) => {
                    tracing::warn!(%error, listener = %name, "accepting rests");
                    self.worker.metrics.worker.accept_errors().inc();
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Err(AcceptError::Socket(error)) => {
                    tracing::error!(%error, listener = %name, "the listening socket broke");
                    return;
                }
            }
        }
    }

    fn direction(&self) -> Direction {
        let snapshot = self.worker.store.load();
        let found = snapshot.listener(self.name.as_str()).present();
        found.map_or(Direction::Unspecified, |listener| listener.direction)
    }

    /// Each connection is a task of its own.
    fn serve(&self, accepted: Accepted) {
        let Accepted { stream, peer } = accepted;
        let (listener, counted) = (self.name.clone(), self.metrics.connection());
        let doorway = Doorway { listener, counted, present: self.present.enter(None) };
        let number = doorway.present.number();
        let incoming = Incoming { stream, peer, doorway };
        let task = guarded(self.served(), connection::serve(Rc::clone(&self.worker), incoming));
        self.present.served_by(number, tokio::task::spawn_local(task).abort_handle());
    }

    fn served(&self) -> Served {
        Served { _counted: self.worker.load.connection(), worker: Rc::clone(&self.worker) }
    }

    /// Takes what is connected already.
    async fn accept_waiting(&self) {
        let waiting = Duration::ZERO;
        while let Ok(Ok(accepted)) = tokio::time::timeout(waiting, accept(&self.listener)).await {
            self.serve(accepted);
        }
    }

    /// Takes what is connected already, then has the kernel refuse everybody: a connection that
    /// nobody will accept must not look like one that was made.
    async fn refuse_from_now_on(&self) {
        self.accept_waiting().await;
        // All duplicates of the socket stop listening with it. It may have been stopped by another
        // worker before.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// A connection that is served, if need be until a panic or until its task is aborted.
struct Served {
    _counted: ConnectionGuard,
    worker: Rc<Worker>,
}

impl Drop for Served {
    /// At the end of a connection others may have to look again, once any are to be closed: until
    /// then it is nothing to the thousands that are idle.
    fn drop(&mut self) {
        if self.worker.drain.view() != View::SERVING {
            self.worker.drain.look_again();
        }
    }
}

/// Serves a connection, unless it panics.
async fn guarded(served: Served, serving: impl Future<Output = ()>) {
    if panic::catch(pin!(serving)).await.is_err() {
        served.worker.panicked();
    }
}

#[cfg(test)]
mod tests {
    use tulle_identity::TlsConfigs;
    use tulle_model::snapshot::Snapshot;
    use tulle_runtime::drain::load::LoadReader;

    use super::*;
    use crate::access_log::sinks::WorkerLogs;
    use crate::app::reports::Reports;
    use crate::http::context::HttpContext;
    use crate::http::h1_server::H1Connection;
    use crate::metrics::WorkerMetrics;
    use crate::store::Store;
    use crate::upstream::{Clock, Upstreams};
    use crate::worker::WorkerParts;

    #[tokio::test]
    async fn a_panic_ends_its_connection_and_is_reported() {
        let (reports, metrics) = (Reports::of(1), WorkerMetrics::detached());
        let worker = Worker::new(WorkerParts {
            index: 0,
            store: Store::new(&Arc::new(Snapshot::new(false)), None),
            upstreams: Upstreams::new(Clock::start(), Rc::clone(&metrics)),
            tls: TlsConfigs::default(),
            load: LoadReader::default(),
            logs: WorkerLogs::new(Vec::new(), "".into()),
            metrics,
            reports: reports.of_worker(0),
            in_mesh: false,
            seed: 0,
        });
        let served = || Served { _counted: worker.load.connection(), worker: Rc::clone(&worker) };
        guarded(served(), async { panic!("planted") }).await;
        assert_eq!((reports.panics(), worker.load.load().connections), (1, 0));
        assert_eq!(worker.metrics.worker.panics().value(), 1);
        guarded(served(), async {}).await;
        assert_eq!(reports.panics(), 1);
    }

    fn future_bytes<A, F: Future>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// What every idle HTTP/1 connection of every proxy costs, beside what tokio keeps for its
    /// socket. The kilobytes that serving a request takes belong to [`PlacePool`].
    ///
    /// [`PlacePool`]: crate::http::place::PlacePool
    #[test]
    fn an_idle_connection_is_small() {
        let task = future_bytes(|(worker, served, incoming): (Rc<Worker>, _, Incoming)| {
            guarded(served, connection::serve(worker, incoming))
        });
        let serving = future_bytes(|(cx, io)| crate::http::serve(cx, io, false));
        let own = size_of::<HttpContext>() + size_of::<H1Connection>();
        assert!(task <= 384, "its task: {task} bytes");
        assert!(serving <= 648, "serving it: {serving} bytes");
        assert!(own <= 568, "its context and itself: {own} bytes");
    }
}
