//! A worker's copy of the configuration, and the one loop that waits for what it lacks.
//!
//! The control thread publishes whole snapshots; a decision loads one and reads only that. Where
//! a decision answers *need*, the name is asked for and the decision is taken again when the
//! configuration changed (design D5, D7).

pub mod uses;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};
use tulle_model::lookup::{Absence, Decision, Lookup, Needed};
use tulle_model::name::ListenerName;
use tulle_model::snapshot::Snapshot;
use tulle_xds::session::message::Name;

use crate::store::uses::{Use, Uses};

/// How long a request waits for a name that nobody asked for before.
pub const NAME_WAIT: Duration = Duration::from_secs(5);
/// Requests of one worker that may wait for names at once.
pub const MAX_WAITERS: usize = 1_000;
/// Names under way to the control thread; more are not asked for.
pub const ASK_QUEUE: usize = 4_096;

/// How often names in use are said to be: well within the time after which an unused name is given
/// up.
pub const REPEAT_USE: Duration = Duration::from_secs(60);

/// The way to the control thread for names that are needed.
pub type Asker = mpsc::Sender<Name>;

/// A worker's configuration.
#[derive(Debug)]
pub struct Store {
    current: RefCell<Rc<Snapshot>>,
    changed: Notify,
    waiters: Cell<usize>,
    asker: Option<Asker>,
    uses: Uses,
}

impl Store {
    /// Starts with `snapshot`; names are asked for through `asker`, if anybody can be asked.
    #[must_use]
    pub fn new(snapshot: &Arc<Snapshot>, asker: Option<Asker>) -> Self {
        Self {
            current: RefCell::new(Rc::new(Snapshot::clone(snapshot))),
            changed: Notify::new(),
            waiters: Cell::new(0),
            asker,
            uses: Uses::default(),
        }
    }

    /// Notes that traffic uses a listener by a name that it may be asked for by, for as long as
    /// the value lives. Nothing where nobody can be asked.
    #[must_use]
    pub fn use_name(&self, name: &str) -> Option<Use> {
        self.asker.as_ref()?;
        matches!(self.current.borrow().listener(name), Lookup::Present(_))
            .then(|| self.uses.touch(name))
    }

    /// Says over and over which names are in use; never comes back.
    pub async fn repeat_uses(&self) {
        let Some(asker) = &self.asker else { return std::future::pending().await };
        loop {
            tokio::time::sleep(REPEAT_USE).await;
            for name in self.uses.in_use() {
                // The receiver lives as long as the process.
                let _ = asker.send(name).await;
            }
        }
    }

    /// The configuration now. Hold it for one decision, not for a stream.
    #[must_use]
    pub fn load(&self) -> Rc<Snapshot> {
        Rc::clone(&self.current.borrow())
    }

    /// Replaces the configuration, then wakes those who wait.
    pub fn replace(&self, snapshot: &Arc<Snapshot>) {
        *self.current.borrow_mut() = Rc::new(Snapshot::clone(snapshot));
        self.changed.notify_waiters();
    }

    /// Takes `decide` until it no longer needs a name.
    ///
    /// # Errors
    /// [`Absence::TimedOut`] after [`NAME_WAIT`], [`Absence::Overflow`] when too many wait or
    /// ask, [`Absence::NotConfigured`] when nobody can be asked, [`Absence::NotFound`] for what is
    /// no listener: everything else comes with the listener that names it.
    pub async fn decide<T>(
        &self,
        mut decide: impl FnMut(&Snapshot) -> Decision<T>,
    ) -> Result<T, Absence> {
        // Nearly always; who waits for nothing need not be told of changes.
        if let Decision::Decided(value) = decide(&self.current.borrow()) {
            return Ok(value);
        }
        let mut wait: Option<Wait<'_>> = None;
        loop {
            let changed = self.changed.notified();
            let need = match decide(&self.load()) {
                Decision::Decided(value) => return Ok(value),
                Decision::Need(Needed::Listener(name)) => name,
                Decision::Need(_) => return Err(Absence::NotFound),
            };
            let wait = match &mut wait {
                Some(wait) => wait,
                none => none.insert(self.start_waiting()?),
            };
            if wait.asked.as_ref() != Some(&need) {
                let asker = self.asker.as_ref().ok_or(Absence::NotConfigured)?;
                asker.try_send(need.shared()).map_err(|_| Absence::Overflow)?;
                wait.asked = Some(need);
            }
            timeout_at(wait.deadline, changed).await.map_err(|_| Absence::TimedOut)?;
        }
    }

    fn start_waiting(&self) -> Result<Wait<'_>, Absence> {
        let guard = WaiterGuard::new(&self.waiters).ok_or(Absence::Overflow)?;
        Ok(Wait { deadline: Instant::now() + NAME_WAIT, asked: None, _guard: guard })
    }
}

/// One request's wait, over all the names that it turns out to need.
#[derive(Debug)]
struct Wait<'s> {
    deadline: Instant,
    asked: Option<ListenerName>,
    _guard: WaiterGuard<'s>,
}

/// Counts a request that waits.
#[derive(Debug)]
struct WaiterGuard<'s>(&'s Cell<usize>);

impl<'s> WaiterGuard<'s> {
    fn new(waiters: &'s Cell<usize>) -> Option<Self> {
        (waiters.get() < MAX_WAITERS).then(|| {
            waiters.set(waiters.get() + 1);
            Self(waiters)
        })
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tulle_model::listener::Listener;
    use tulle_model::resource::Resource;
    use tulle_model::snapshot::Change;

    fn needs_listener(snapshot: &Snapshot) -> Decision<bool> {
        match snapshot.listener("a") {
            Lookup::Present(_) => Decision::Decided(true),
            Lookup::Absent(_) => Decision::Decided(false),
            Lookup::Unknown => Decision::Need(Needed::Listener("a".into())),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_is_asked_for_once_and_waited_for() {
        let (asker, mut asked) = mpsc::channel(ASK_QUEUE);
        let empty = Arc::new(Snapshot::new(true));
        let store = Store::new(&empty, Some(asker));
        let answer = async {
            assert_eq!(asked.recv().await, Some("a".into()));
            store.replace(&Arc::new(empty.with([])));
            tokio::task::yield_now().await;
            let listener = Resource::Listener(Arc::new(Listener::new("a".into())));
            let put = Change::Put(listener, vec![]);
            store.replace(&Arc::new(empty.with([put])));
        };
        let (found, ()) = tokio::join!(store.decide(needs_listener), answer);
        assert_eq!(found, Ok(true));
        assert!(asked.try_recv().is_err(), "asked twice");
        assert_eq!(store.waiters.get(), 0);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn nobody_waits_for_ever() {
        let (asker, _asked) = mpsc::channel(ASK_QUEUE);
        let store = Store::new(&Arc::new(Snapshot::new(true)), Some(asker));
        assert_eq!(store.decide(needs_listener).await, Err(Absence::TimedOut));
        let cluster = |_: &Snapshot| Decision::<()>::Need(Needed::Cluster("c".into()));
        assert_eq!(store.decide(cluster).await, Err(Absence::NotFound), "nobody names it");
        let nobody = Store::new(&Arc::new(Snapshot::new(true)), None);
        assert_eq!(nobody.decide(needs_listener).await, Err(Absence::NotConfigured));
    }
}
