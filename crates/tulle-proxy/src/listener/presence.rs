//! A listener as its connections see it: there, or leaving.
//!
//! Who removes a listener, or moves it to another address, wants its connections gone too, but not
//! broken (Envoy: `ListenerManagerImpl::drainListener`). They are told to go with their answers,
//! more and more of them as the drain time passes, and what is left after it is closed. Other
//! listeners, and a new one of the same name, have connections of their own.
//!
//! So it is with the filter chains of a listener that stays: an edit that removes a chain or
//! changes it ends the connections which that chain took, and no others (Envoy:
//! `ListenerManagerImpl::drainFilterChains`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;
use tokio::time::{sleep, sleep_until};
use tulle_model::listener::{FilterChain, Listener};
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
    /// Those whose filter chain is known, by that.
    chains: RefCell<Vec<(Arc<FilterChain>, Rc<Presence>)>>,
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

    /// Whether there is no connection, of whatever chain.
    fn is_empty(&self) -> bool {
        self.count() == 0 && self.chains.borrow().iter().all(|(_, chain)| chain.count() == 0)
    }

    /// What a connection is to know of the end of its listener.
    #[must_use]
    pub fn view(&self) -> View {
        self.drain.view()
    }

    /// Takes note of how the listener is configured now: filter chains that it does not have any
    /// more leave by `plan`.
    pub fn configure(&self, config: Option<&Arc<Listener>>, worker: &Rc<Worker>, plan: Plan) {
        let Some(config) = config else { return };
        let before = self.config.replace(Some(Arc::clone(config)));
        if before.is_some_and(|before| Arc::ptr_eq(&before, config)) {
            return;
        }
        self.chains.borrow_mut().retain(|(chain, present)| {
            let stays = config.all_chains().any(|now| is_same(now, chain));
            if !stays && present.count() > 0 {
                tracing::info!(listener = %config.name, chain = %chain.name, "it drains");
                Rc::clone(present).leave(worker, plan);
            }
            stays && present.count() > 0
        });
    }

    /// The connections that `chain` took; all of them together once the listener leaves.
    fn of_chain(self: &Rc<Self>, chain: &Arc<FilterChain>) -> Rc<Self> {
        if self.view().phase > Phase::Serving {
            return Rc::clone(self);
        }
        let mut chains = self.chains.borrow_mut();
        if let Some((_, known)) = chains.iter().find(|(known, _)| is_same(known, chain)) {
            return Rc::clone(known);
        }
        let fresh = Rc::<Self>::default();
        chains.push((Arc::clone(chain), Rc::clone(&fresh)));
        fresh
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
        for (_, chain) in self.chains.take() {
            chain.leave(worker, plan);
        }
        let mut drain = Drain::default();
        // At once: whoever comes in from now on finds it leaving.
        self.handle(&mut drain, Event::Begin(plan));
        let until = Instant::now() + plan.time;
        tokio::task::spawn_local(self.drain(Rc::clone(worker), drain, until));
    }

    async fn drain(self: Rc<Self>, worker: Rc<Worker>, mut drain: Drain, until: Instant) {
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

/// Whether two chains do the same. What they were made from says nothing about that.
fn is_same(a: &Arc<FilterChain>, b: &Arc<FilterChain>) -> bool {
    let bare = |chain: &FilterChain| FilterChain { origin: None, ..chain.clone() };
    Arc::ptr_eq(a, b) || (a.name == b.name && bare(a) == bare(b))
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

    /// From now on it is one of those that `chain` took.
    pub fn taken_by(&mut self, chain: &Arc<FilterChain>) {
        let task = self.task();
        *self = self.presence.of_chain(chain).enter(task);
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
    /// Counts a connection that is handed over to `listener`, which from now on is the one that it
    /// goes with.
    pub fn take_over(&self, listener: &Arc<Listener>, guard: &mut PresenceGuard) {
        let task = guard.task();
        if let Some(known) = self.0.borrow().get(&listener.name) {
            *guard = known.enter(task);
            return;
        }
        let fresh = Rc::<Presence>::default();
        *fresh.config.borrow_mut() = Some(Arc::clone(listener));
        *guard = fresh.enter(task);
        self.0.borrow_mut().insert(listener.name.clone(), fresh);
    }

    /// Listeners that `snapshot` does not have leave by `plan`.
    pub fn sync(&self, worker: &Rc<Worker>, snapshot: &Snapshot, plan: Plan) {
        self.0.borrow_mut().retain(|name, presence| {
            let now = snapshot.listener(name.as_str()).present();
            presence.configure(now, worker, plan);
            if now.is_none() {
                Rc::clone(presence).leave(worker, plan);
            }
            now.is_some() && !presence.is_empty()
        });
    }
}
