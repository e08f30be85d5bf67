//! Those who wait for a connection to one endpoint, first come first served.
//!
//! A waiter takes whatever is ready first: a connection given back, or a new one. A new one is
//! made in a task of its own, so that a waiter who goes away does not break it off.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use tokio::sync::Notify;

use super::failure::ConnectFailure;
use super::limits::UnderWay;

/// The queue in front of one pool.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waiters: Cell<usize>,
    connecting: Rc<Cell<usize>>,
    changed: Notify,
    failures: Cell<u64>,
    failure: RefCell<Option<ConnectFailure>>,
}

/// What came of the wish for one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It is being made.
    Started,
    /// Enough are being made already.
    Enough,
    /// The limit on connections is reached.
    AtLimit,
}

impl Waiting {
    pub(super) fn waiters(&self) -> usize {
        self.waiters.get()
    }

    pub(super) fn connecting(&self) -> usize {
        self.connecting.get()
    }

    /// Waits until `take` gives something, asking `start` for new connections. `take` also says
    /// whether there is more for the next.
    ///
    /// # Errors
    /// A connection failed meanwhile: everybody who waits is told, as in Envoy.
    pub(super) async fn wait<T>(
        &self,
        under_way: &UnderWay,
        mut take: impl FnMut() -> Option<(T, bool)>,
        mut start: impl FnMut() -> Start,
    ) -> Result<T, ConnectFailure> {
        let _waiter = WaiterGuard::new(&self.waiters);
        let seen = self.failures.get();
        let mut place = Place { under_way, is_free: false };
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some((taken, more)) = take() {
                if more {
                    self.changed.notify_one();
                }
                return Ok(taken);
            }
            if self.failures.get() != seen {
                let failure = self.failure.borrow().clone();
                return Err(failure.unwrap_or_else(ConnectFailure::timeout));
            }
            match start() {
                Start::Started => place.is_free = false,
                Start::Enough => place.pass_on(),
                Start::AtLimit => {
                    place.is_free = false;
                    tokio::select! {
                        () = changed => {}
                        () = under_way.released() => place.is_free = true,
                    }
                    continue;
                }
            }
            changed.await;
        }
    }

    /// Says that a connection is being made; the guard must be kept until it is or is not.
    pub(super) fn start(&self) -> ConnectingGuard {
        self.connecting.set(self.connecting.get() + 1);
        ConnectingGuard(Rc::clone(&self.connecting))
    }

    /// Says that there is something to take.
    pub(super) fn ready(&self) {
        if self.waiters.get() > 0 {
            self.changed.notify_one();
        }
    }

    /// Says that a connection could not be made.
    pub(super) fn failed(&self, failure: ConnectFailure) {
        *self.failure.borrow_mut() = Some(failure);
        self.failures.set(self.failures.get() + 1);
        self.changed.notify_waiters();
    }
}

/// A place for a connection that became free and that one waiter was told of. It is passed on
/// to the next if it is not used.
struct Place<'w> {
    under_way: &'w UnderWay,
    is_free: bool,
}

impl Place<'_> {
    fn pass_on(&mut self) {
        if std::mem::take(&mut self.is_free) {
            self.under_way.tell_released();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pass_on();
    }
}

struct WaiterGuard<'w>(&'w Cell<usize>);

impl<'w> WaiterGuard<'w> {
    fn new(waiters: &'w Cell<usize>) -> Self {
        waiters.set(waiters.get() + 1);
        Self(waiters)
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection is being made.
#[derive(Debug)]
pub(super) struct ConnectingGuard(Rc<Cell<usize>>);

impl Drop for ConnectingGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
