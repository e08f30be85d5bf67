//! A worker's copy of the configuration, and the one loop that waits for what it lacks.
//!
//! The control thread publishes whole snapshots; a decision loads one and reads only that. Where
//! a decision answers *need*, the name is asked for and the decision is taken again when the
//! configuration changed (design D5, D7).

pub mod refused;
pub mod uses;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tulle_model::lookup::{Absence, Decision, Lookup, Needed};
use tulle_model::snapshot::Snapshot;
use tulle_xds::session::message::Name;

use crate::store::refused::{Place, REFUSED_QUEUE, Refused, Waiters};
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

/// What workers need so that names are asked for.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Where they are asked for.
    pub names: Asker,
    /// Where it is said which of them are not.
    pub refused: Refused,
}

impl Asking {
    /// With the other end of it: what is asked for.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Name>) {
        let (names, asked) = mpsc::channel(ASK_QUEUE);
        (Self { names, refused: Refused::new(REFUSED_QUEUE) }, asked)
    }
}

/// What becomes of whoever waits in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InVain {
    /// It fails, so it is worth to wait as long as may be.
    Fails,
    /// It passes, as if there were nothing of that name. Where the control plane has been away for
    /// [`NAME_WAIT`] nothing is to be expected, and it passes at once.
    Passes,
}

/// A worker's configuration.
#[derive(Debug)]
pub struct Store {
    current: RefCell<Rc<Snapshot>>,
    changed: Notify,
    waiters: Waiters,
    asker: Option<Asker>,
    /// Since when nobody can be asked.
    away_since: Cell<Option<Instant>>,
    uses: Uses,
}

impl Store {
    /// Starts with `snapshot`; names are asked for through `asker`, if anybody can be asked.
    #[must_use]
    pub fn new(snapshot: &Arc<Snapshot>, asker: Option<Asker>) -> Self {
        Self {
            current: RefCell::new(Rc::new(Snapshot::clone(snapshot))),
            changed: Notify::new(),
            waiters: Waiters::default(),
            asker,
            away_since: Cell::default(),
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

    /// Takes note of since when nobody can be asked.
    pub fn set_away(&self, since: Option<Instant>) {
        self.away_since.set(since);
    }

    /// Tells those who wait for one of these names that it is not asked for: too many are new.
    pub fn refuse(&self, names: &[Name]) {
        names.iter().for_each(|name| self.waiters.refuse(name));
    }

    /// Takes `decide` until it no longer needs a name.
    ///
    /// # Errors
    /// [`Absence::TimedOut`] after [`NAME_WAIT`] or, where it can be known, earlier;
    /// [`Absence::Overflow`] when too many wait or ask, [`Absence::NotConfigured`] when nobody can
    /// be asked, [`Absence::NotFound`] for what is no listener: everything else comes with the
    /// listener that names it.
    pub async fn decide<T>(
        &self,
        in_vain: InVain,
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
            if wait.place.name() != Some(&need) {
                let asker = self.asker.as_ref().ok_or(Absence::NotConfigured)?;
                wait.place.wait_for(need.clone());
                asker.try_send(need.shared()).map_err(|_| Absence::Overflow)?;
            }
            tokio::select! {
                () = changed => {}
                () = wait.place.refused() => return Err(Absence::Overflow),
                () = sleep_until(self.limit(wait.began, in_vain)) => {
                    return Err(Absence::TimedOut);
                }
            }
        }
    }

    /// Until when whoever began to wait then waits.
    fn limit(&self, began: Instant, in_vain: InVain) -> Instant {
        let away = self.away_since.get().filter(|_| in_vain == InVain::Passes);
        away.map_or(began, |since| since.min(began)) + NAME_WAIT
    }

    fn start_waiting(&self) -> Result<Wait<'_>, Absence> {
        let place = self.waiters.enter(MAX_WAITERS).ok_or(Absence::Overflow)?;
        Ok(Wait { began: Instant::now(), place })
    }
}

/// One request's wait, over all the names that it turns out to need.
#[derive(Debug)]
struct Wait<'s> {
    began: Instant,
    place: Place<'s>,
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
        let (found, ()) = tokio::join!(store.decide(InVain::Fails, needs_listener), answer);
        assert_eq!(found, Ok(true));
        assert!(asked.try_recv().is_err(), "asked twice");
        assert!(store.waiters.is_empty());
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn nobody_waits_for_ever() {
        let (asker, _asked) = mpsc::channel(ASK_QUEUE);
        let store = Store::new(&Arc::new(Snapshot::new(true)), Some(asker));
        assert_eq!(store.decide(InVain::Fails, needs_listener).await, Err(Absence::TimedOut));
        let cluster = |_: &Snapshot| Decision::<()>::Need(Needed::Cluster("c".into()));
        assert_eq!(
            store.decide(InVain::Fails, cluster).await,
            Err(Absence::NotFound),
            "nobody names it"
        );
        let nobody = Store::new(&Arc::new(Snapshot::new(true)), None);
        assert_eq!(nobody.decide(InVain::Fails, needs_listener).await, Err(Absence::NotConfigured));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_refused_name_is_told_to_those_who_wait_for_it_and_to_nobody_else() {
        let (asker, _asked) = mpsc::channel(ASK_QUEUE);
        let store = Store::new(&Arc::new(Snapshot::new(true)), Some(asker));
        let other = |_: &Snapshot| Decision::<()>::Need(Needed::Listener("b".into()));
        let start = Instant::now();
        let refuse = async {
            tokio::task::yield_now().await;
            store.refuse(&["a".into(), "nobody waits".into()]);
        };
        let first = async {
            let end = store.decide(InVain::Fails, needs_listener).await;
            (end, start.elapsed())
        };
        let second = store.decide(InVain::Fails, needs_listener);
        let (first, second, other, ()) =
            tokio::join!(first, second, store.decide(InVain::Fails, other), refuse);
        assert_eq!(first, (Err(Absence::Overflow), Duration::ZERO));
        assert_eq!((second, other), (Err(Absence::Overflow), Err(Absence::TimedOut)));
        assert!(store.waiters.is_empty());
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn who_passes_anyway_waits_for_nobody_who_has_been_away() {
        let (asker, _asked) = mpsc::channel(ASK_QUEUE);
        let store = Store::new(&Arc::new(Snapshot::new(true)), Some(asker));
        let waits = async |in_vain| {
            let start = Instant::now();
            assert_eq!(store.decide(in_vain, needs_listener).await, Err(Absence::TimedOut));
            start.elapsed()
        };
        let away = Instant::now();
        store.set_away(Some(away));
        assert_eq!(waits(InVain::Passes).await, NAME_WAIT, "it may have gone just to come back");
        assert_eq!(waits(InVain::Passes).await, Duration::ZERO);
        assert_eq!(waits(InVain::Fails).await, NAME_WAIT);
        store.set_away(Some(Instant::now() - Duration::from_secs(2)));
        assert_eq!(waits(InVain::Passes).await, Duration::from_secs(3));
        store.set_away(None);
        assert_eq!(waits(InVain::Passes).await, NAME_WAIT);
    }
}
