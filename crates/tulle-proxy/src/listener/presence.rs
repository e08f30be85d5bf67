//! A listener as its connections see it: there, or leaving.
//!
//! Who removes a listener, or moves it to another address, wants its connections gone too, but not
//! broken (Envoy: `ListenerManagerImpl::drainListener`). They are told to go with their answers,
//! more and more of them as the drain time passes, and what is left after it is closed. Other
//! listeners, and a new one of the same name, have connections of their own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};
use tulle_model::listener::Listener;
use tulle_model::name::ListenerName;
use tulle_model::snapshot::Snapshot;
use tulle_runtime::drain::load::Load;
use tulle_runtime::drain::{Action, Drain, Event, LAST_ACCEPT, Phase, Plan, View};

use crate::worker::{DrainView, Worker};

/// How long a listener is there, on one worker.
#[derive(Debug, Default)]
pub struct Presence {
    drain: DrainView,
    /// The task of each connection, by its number here.
    connections: RefCell<HashMap<u64, Option<AbortHandle>>>,
    numbers: Cell<u64>,
    /// As it was configured last, for those who were connected before it left.
    config: RefCell<Option<Arc<Listener>>>,
}

impl Presence {
    /// Counts a connection for as long as the guard lives; its task is aborted when that is over.
    #[must_use]
    pub fn enter(self: &Rc<Self>, task: Option<AbortHandle>) -> PresenceGuard {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        self.connections.borrow_mut().insert(number, task);
        PresenceGuard { presence: Rc::clone(self), number }
    }

    /// Takes note that the connection of this number is served by `task`.
    pub fn served_by(&self, number: u64, task: AbortHandle) {
        self.connections.borrow_mut().insert(number, Some(task));
    }

    fn count(&self) -> u64 {
        self.connections.borrow().len() as u64
    }

    /// What a connection is to know of the end of its listener.
    #[must_use]
    pub fn view(&self) -> View {
        self.drain.view()
    }

    /// Takes note of how the listener is configured now.
    pub fn configure(&self, config: Option<&Arc<Listener>>) {
        if let Some(config) = config {
            *self.config.borrow_mut() = Some(Arc::clone(config));
        }
    }

    /// How it was configured last.
    #[must_use]
    pub fn config(&self) -> Option<Arc<Listener>> {
        self.config.borrow().clone()
    }

    /// Comes back when the listener leaves.
    pub async fn left(&self) {
        self.drain.wait_until(|view| view.phase > Phase::Serving).await;
    }

    /// Comes back when the listener leaves and all its connections are told to go.
    pub async fn tells_all_to_go(&self) {
        self.drain.wait_until(|view| view.tells_all_to_go(Instant::now())).await;
    }

    /// The listener leaves by `plan`; to be called once, on the thread of its worker.
    pub fn leave(self: Rc<Self>, worker: &Rc<Worker>, plan: Plan) {
        tokio::task::spawn_local(self.drain(Rc::clone(worker), plan));
    }

    async fn drain(self: Rc<Self>, worker: Rc<Worker>, plan: Plan) {
        let until = Instant::now() + plan.time;
        let mut drain = Drain::default();
        self.handle(&mut drain, Event::Begin(plan));
        while drain.phase() != Phase::Done && !self.drain.view().cut {
            let emptied = async {
                self.drain.wait_until(|_| self.count() == 0).await;
                sleep(LAST_ACCEPT).await;
            };
            tokio::select! {
                () = emptied => {}
                () = sleep_until(until.into()) => {}
            }
            self.handle(&mut drain, Event::Tick);
        }
        let cut = self.count();
        for task in self.connections.borrow().values().flatten() {
            task.abort();
        }
        if cut > 0 {
            worker.metrics.worker.listener_connections_cut().add(cut);
            tracing::info!(cut, "the drain time of a listener is over: what is left is closed");
        }
    }

    fn handle(&self, drain: &mut Drain, event: Event) {
        let load = Load { connections: self.count(), requests: 0 };
        // The load first: without it a beginning would see nobody there.
        for event in [Event::Load(load), event] {
            for action in drain.handle(event, Instant::now()) {
                if let Action::Publish(view) = action {
                    self.drain.set(view);
                }
            }
        }
    }
}

/// A connection of a listener.
#[derive(Debug)]
pub struct PresenceGuard {
    presence: Rc<Presence>,
    number: u64,
}

impl PresenceGuard {
    /// The listener that it is a connection of.
    #[must_use]
    pub fn presence(&self) -> &Rc<Presence> {
        &self.presence
    }

    /// The number of the connection there.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    fn task(&self) -> Option<AbortHandle> {
        self.presence.connections.borrow().get(&self.number).cloned().flatten()
    }
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        self.presence.connections.borrow_mut().remove(&self.number);
        if self.presence.count() == 0 {
            self.presence.drain.look_again();
        }
    }
}

/// Of listeners that connections are handed over to by their destination: those have no socket.
#[derive(Debug, Default)]
pub struct Presences(RefCell<HashMap<ListenerName, Rc<Presence>>>);

impl Presences {
    /// Counts a connection that is handed over to the listener called `name`, which from now on
    /// is the one that it goes with.
    pub fn take_over(&self, name: &ListenerName, guard: &mut PresenceGuard) {
        let task = guard.task();
        if let Some(known) = self.0.borrow().get(name) {
            *guard = known.enter(task);
            return;
        }
        *guard = self.0.borrow_mut().entry(name.clone()).or_default().enter(task);
    }

    /// Listeners that `snapshot` does not have leave by `plan`.
    pub fn sync(&self, worker: &Rc<Worker>, snapshot: &Snapshot, plan: Plan) {
        self.0.borrow_mut().retain(|name, presence| {
            let stays = snapshot.listener(name.as_str()).present().is_some();
            if !stays {
                Rc::clone(presence).leave(worker, plan);
            }
            stays && presence.count() > 0
        });
    }
}
