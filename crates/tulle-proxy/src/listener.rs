//! Where connections come in: one accept loop for each listening socket of a worker.
//!
//! The request story starts here: accept → [`crate::connection`].

pub mod inspect;
pub mod original_dst;
pub mod socket;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tulle_model::name::ListenerName;

use crate::connection::{self, Incoming};
use crate::listener::socket::{AcceptError, Accepted, accept, listen};
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
#[derive(Debug, Default)]
pub struct AcceptLoops {
    running: RefCell<HashMap<(ListenerName, SocketAddr), JoinHandle<()>>>,
    stopping: Cell<bool>,
    stop: Rc<Notify>,
}

impl AcceptLoops {
    /// Starts a loop for each new socket, stops those whose socket is gone; others go on.
    ///
    /// # Errors
    /// A socket that cannot be used.
    pub fn sync(&self, worker: &Rc<Worker>, bound: &[Arc<BoundSocket>]) -> io::Result<()> {
        if self.stopping.get() {
            return Ok(());
        }
        let mut running = self.running.borrow_mut();
        running.retain(|(name, address), task| {
            let stays =
                bound.iter().any(|socket| socket.listener == *name && socket.address == *address);
            if !stays {
                task.abort();
            }
            stays
        });
        for socket in bound {
            let key = (socket.listener.clone(), socket.address);
            if running.contains_key(&key) {
                continue;
            }
            let own = socket.sockets.get(worker.index).or_else(|| socket.sockets.first());
            let Some(own) = own else { continue };
            let listener = listen(own.try_clone()?)?;
            let name = socket.listener.clone();
            let accepting = run(Rc::clone(worker), listener, name, Rc::clone(&self.stop));
            let task = tokio::task::spawn_local(accepting);
            running.insert(key, task);
        }
        Ok(())
    }

    /// Stops all of them: what has connected by now is accepted, whoever dials later is refused.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.stop.notify_waiters();
    }
}

/// Accepts until the socket breaks or `stop` is called.
async fn run(worker: Rc<Worker>, listener: TcpListener, name: ListenerName, stop: Rc<Notify>) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = accept(&listener) => accepted,
            () = stop.notified() => return refuse_from_now_on(&worker, &listener, &name).await,
        };
        match accepted {
            Ok(accepted) => serve(&worker, accepted, &name),
            Err(AcceptError::Connection(_)) => {}
            Err(AcceptError::Exhausted(error)) => {
                tracing::warn!(%error, listener = %name, "accepting rests");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            Err(AcceptError::Socket(error)) => {
                tracing::error!(%error, listener = %name, "the listening socket broke");
                return;
            }
        }
    }
}

/// Each connection is a task of its own.
fn serve(worker: &Rc<Worker>, accepted: Accepted, name: &ListenerName) {
    let Accepted { stream, peer } = accepted;
    let incoming = Incoming { stream, peer, listener: name.clone() };
    let serving = connection::serve(Rc::clone(worker), incoming);
    let (guard, worker) = (worker.load.connection(), Rc::clone(worker));
    tokio::task::spawn_local(async move {
        serving.await;
        drop(guard);
        worker.drain.look_again();
    });
}

/// Takes what is connected already, then has the kernel refuse everybody: a connection that nobody
/// will accept must not look like one that was made.
async fn refuse_from_now_on(worker: &Rc<Worker>, listener: &TcpListener, name: &ListenerName) {
    let waiting = Duration::ZERO;
    while let Ok(Ok(accepted)) = tokio::time::timeout(waiting, accept(listener)).await {
        serve(worker, accepted, name);
    }
    // All duplicates of the socket stop listening with it. It may have been stopped by another
    // worker before.
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}
