//! Signs of change: what the system says happened, reduced to "look at these" and "somebody is
//! still writing that".
//!
//! A file that was created or written and not closed yet is left alone for [`WRITING_LIMIT`], so
//! that an editor's half-written file is never taken for the whole. Renaming a finished file into
//! place needs no patience.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};

/// How long a file may be open for writing before it is read all the same.
pub const WRITING_LIMIT: Duration = Duration::from_secs(1);
/// Most paths remembered; beyond that everything is looked at.
const MAX_PATHS: usize = 10_000;

/// Collects signs until somebody looks.
#[derive(Debug, Default)]
pub(super) struct Signs {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    changed: Changed,
    /// Files that are being written, since when.
    writing: BTreeMap<PathBuf, Instant>,
    woken: bool,
    stop: bool,
}

/// What to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Files to be read whatever their time stamps say.
    pub(super) paths: BTreeSet<PathBuf>,
    /// Files to be left alone this time.
    pub(super) writing: BTreeSet<PathBuf>,
    /// Signs were lost: read everything.
    pub(super) all: bool,
}

impl Signs {
    /// Notes an event of the system; `None` if it lost some.
    pub(super) fn note(&self, event: Option<&notify::Event>, now: Instant) {
        let mut state = self.lock();
        let Some(event) = event.filter(|event| !event.need_rescan()) else {
            state.changed.all = true;
            return self.wake(state);
        };
        let Some(writing) = meaning(event.kind) else { return };
        for path in &event.paths {
            state.changed.paths.insert(path.clone());
            if writing {
                state.writing.entry(path.clone()).or_insert(now);
            } else {
                state.writing.remove(path);
            }
        }
        if state.changed.paths.len().max(state.writing.len()) > MAX_PATHS {
            state.changed = Changed { all: true, ..Changed::default() };
            state.writing.clear();
        }
        self.wake(state);
    }

    /// Waits for signs, but at most `limit`; then until there are none for a fifth of `settle`,
    /// but at most `settle`. False when it is time to stop.
    pub(super) fn wait(&self, limit: Duration, settle: Duration) -> bool {
        self.wait_once(self.until_written(limit));
        let deadline = Instant::now() + settle;
        while self.wait_once(settle / 5) && Instant::now() < deadline {}
        !self.lock().stop
    }

    /// Takes what is to be looked at. What is still being written stays for the next time.
    pub(super) fn take(&self) -> Changed {
        let now = Instant::now();
        let mut state = self.lock();
        state.writing.retain(|_, since| now.duration_since(*since) < WRITING_LIMIT);
        let mut changed = std::mem::take(&mut state.changed);
        changed.writing = state.writing.keys().cloned().collect();
        state.changed.paths = changed.paths.intersection(&changed.writing).cloned().collect();
        changed
    }

    /// Ends the waiting.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stop = true;
        self.wake(state);
    }

    /// `limit`, or less if a file being written must be read before.
    fn until_written(&self, limit: Duration) -> Duration {
        let oldest = self.lock().writing.values().min().copied();
        oldest.map_or(limit, |since| limit.min(WRITING_LIMIT.saturating_sub(since.elapsed())))
    }

    /// Whether a sign came within `limit`.
    fn wait_once(&self, limit: Duration) -> bool {
        let asleep = |state: &mut State| !state.woken && !state.stop;
        let waited = self.wake.wait_timeout_while(self.lock(), limit, asleep);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.woken)
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        state.woken = true;
        drop(state);
        self.wake.notify_one();
    }

    /// The state; every change of it is a single step, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an event says that writing goes on (`true`) or is over; `None` if it changes nothing.
fn meaning(kind: EventKind) -> Option<bool> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(false),
        EventKind::Access(_) => None,
        EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => Some(true),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, RenameMode};

    use super::*;

    fn event(kind: EventKind, path: &str) -> notify::Event {
        notify::Event::new(kind).add_path(path.into())
    }

    fn paths(paths: &BTreeSet<PathBuf>) -> Vec<&str> {
        paths.iter().map(|path| path.to_str().expect("text")).collect()
    }

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    #[test]
    fn a_file_being_written_waits_for_its_end_or_the_limit() {
        let signs = Signs::default();
        let now = Instant::now();
        signs.note(Some(&event(WRITTEN, "half")), now);
        signs.note(Some(&event(WRITTEN, "done")), now);
        signs.note(Some(&event(CLOSED, "done")), now);
        let first = signs.take();
        assert_eq!(
            (paths(&first.paths), paths(&first.writing)),
            (vec!["done", "half"], vec!["half"])
        );
        let second = signs.take();
        assert_eq!(paths(&second.paths), ["half"], "looked at again");
        signs.note(Some(&event(CLOSED, "half")), now);
        assert!(signs.take().writing.is_empty());

        let long_ago = now.checked_sub(WRITING_LIMIT).expect("the machine is up that long");
        signs.note(Some(&event(WRITTEN, "slow")), long_ago);
        let overdue = signs.take();
        assert_eq!((paths(&overdue.paths), paths(&overdue.writing)), (vec!["slow"], vec![]));
    }

    #[test]
    fn renaming_into_place_and_reading_need_no_patience() {
        let signs = Signs::default();
        let now = Instant::now();
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        signs.note(Some(&event(renamed, "new")), now);
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        signs.note(Some(&event(opened, "read")), now);
        let changed = signs.take();
        assert_eq!((paths(&changed.paths), paths(&changed.writing)), (vec!["new"], vec![]));
    }

    #[test]
    fn lost_and_too_many_signs_mean_everything() {
        let signs = Signs::default();
        signs.note(None, Instant::now());
        assert!(signs.take().all);
        assert!(!signs.take().all);
        for index in 0..=MAX_PATHS {
            signs.note(Some(&event(WRITTEN, &index.to_string())), Instant::now());
        }
        let changed = signs.take();
        assert!(changed.all && changed.paths.is_empty() && changed.writing.is_empty());
    }

    #[test]
    fn waiting_ends_with_a_sign_or_the_stop() {
        let signs = Signs::default();
        signs.note(Some(&event(CLOSED, "a")), Instant::now());
        let minute = Duration::from_secs(60);
        assert!(signs.wait(minute, Duration::from_millis(5)), "a sign ends it");
        signs.stop();
        assert!(!signs.wait(minute, Duration::from_millis(5)));
    }
}
