//! Those who wait for names, so that each can be told that its name is not asked for: more are new
//! than a proxy asks for in that time (`tulle-xds/src/session/new_names.rs`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, broadcast};
use tulle_model::name::ListenerName;
use tulle_xds::session::message::Name;

/// Batches of refused names on their way to a worker. What a worker that is behind misses is found
/// out by those who wait when their time is over.
pub const REFUSED_QUEUE: usize = 1_024;

/// The way of refused names to the workers.
pub type Refused = broadcast::Sender<Arc<[Name]>>;

/// Everybody who waits on one worker.
#[derive(Debug, Default)]
pub struct Waiters {
    count: Cell<usize>,
    by_name: RefCell<HashMap<ListenerName, Rc<Together>>>,
}

/// Those who wait for the same name.
#[derive(Debug, Default)]
struct Together {
    count: Cell<usize>,
    is_refused: Cell<bool>,
    refused: Notify,
}

impl Waiters {
    /// One more who waits, unless there are `most` already.
    pub fn enter(&self, most: usize) -> Option<Place<'_>> {
        (self.count.get() < most).then(|| {
            self.count.set(self.count.get() + 1);
            Place { waiters: self, waits_for: None }
        })
    }

    /// Tells all who wait for a name that it is refused.
    pub fn refuse(&self, name: &str) {
        if let Some(together) = self.by_name.borrow_mut().remove(name) {
            together.is_refused.set(true);
            together.refused.notify_waiters();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.count.get() == 0 && self.by_name.borrow().is_empty()
    }
}

/// The place of one who waits, for one name after the other.
#[derive(Debug)]
pub struct Place<'w> {
    waiters: &'w Waiters,
    waits_for: Option<(ListenerName, Rc<Together>)>,
}

impl Place<'_> {
    /// What it waits for.
    pub fn name(&self) -> Option<&ListenerName> {
        self.waits_for.as_ref().map(|(name, _)| name)
    }

    /// From now on it waits for this name.
    pub fn wait_for(&mut self, name: ListenerName) {
        self.stop();
        let mut by_name = self.waiters.by_name.borrow_mut();
        let together = Rc::clone(by_name.entry(name.clone()).or_default());
        together.count.set(together.count.get() + 1);
        self.waits_for = Some((name, together));
    }

    /// Comes back when the name that is waited for is refused.
    pub async fn refused(&self) {
        let Some((_, together)) = &self.waits_for else { return std::future::pending().await };
        let refused = together.refused.notified();
        if !together.is_refused.get() {
            refused.await;
        }
    }

    fn stop(&mut self) {
        let Some((name, together)) = self.waits_for.take() else { return };
        together.count.set(together.count.get() - 1);
        // After a refusal others may wait for the same name anew.
        if together.count.get() == 0 && !together.is_refused.get() {
            self.waiters.by_name.borrow_mut().remove(&name);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.stop();
        self.waiters.count.set(self.waiters.count.get() - 1);
    }
}
