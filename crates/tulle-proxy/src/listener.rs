//! Where connections come in: one accept loop for each listening socket of a worker.
//!
//! The request story starts here: accept → [`crate::connection`].

pub mod inspect;
pub mod original_dst;
pub mod socket;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
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
}

impl AcceptLoops {
    /// Starts a loop for each new socket, stops those whose socket is gone; others go on.
    ///
    /// # Errors
    /// A socket that cannot be used.
    pub fn sync(&self, worker: &Rc<Worker>, bound: &[Arc<BoundSocket>]) -> io::Result<()> {
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
            let task = tokio::task::spawn_local(run(Rc::clone(worker), listener, name));
            running.insert(key, task);
        }
        Ok(())
    }

    /// Stops all of them: nothing is accepted any more.
    pub fn stop(&self) {
        for (_, task) in self.running.borrow_mut().drain() {
            task.abort();
        }
    }
}

/// Accepts until the socket breaks. Each connection is a task of its own.
async fn run(worker: Rc<Worker>, listener: TcpListener, name: ListenerName) {
    loop {
        match accept(&listener).await {
            Ok(Accepted { stream, peer }) => {
                let incoming = Incoming { stream, peer, listener: name.clone() };
                let serving = connection::serve(Rc::clone(&worker), incoming);
                let guard = worker.load.connection();
                tokio::task::spawn_local(async move {
                    serving.await;
                    drop(guard);
                });
            }
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
