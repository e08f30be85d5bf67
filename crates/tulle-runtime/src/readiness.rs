//! Whether traffic may be sent here: ready while nobody says otherwise.
//!
//! Whoever has a reason holds a [`ReadyGuard`] for as long as it lasts: the first configuration
//! that has not come, a drain that has begun, panics that are too many.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The readiness of a process. Clones are the same.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<State>);

#[derive(Debug)]
struct State {
    reasons: Mutex<Reasons>,
    ready: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Reasons {
    next: u64,
    /// In the order in which they came.
    held: Vec<(u64, String)>,
}

impl Default for Readiness {
    fn default() -> Self {
        let reasons = Mutex::default();
        Self(Arc::new(State { reasons, ready: watch::Sender::new(true) }))
    }
}

impl Readiness {
    /// Not ready for `reason` until the guard is dropped.
    pub fn block(&self, reason: impl Into<String>) -> ReadyGuard {
        let mut reasons = self.0.reasons();
        let id = reasons.next;
        reasons.next += 1;
        reasons.held.push((id, reason.into()));
        self.0.publish(&reasons);
        ReadyGuard { readiness: self.clone(), id }
    }

    /// Whether traffic may be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Why not, oldest first; empty when ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.0.reasons().held.iter().map(|(_, reason)| reason.clone()).collect()
    }

    /// A receiver of each change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    /// Waits until traffic may be sent here.
    pub async fn ready(&self) {
        // Fails only when the sender is gone, and that lives in `self`.
        let _ = self.changes().wait_for(|ready| *ready).await;
    }
}

impl State {
    fn reasons(&self) -> MutexGuard<'_, Reasons> {
        // Nothing is left half done under this lock.
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under the lock, so that the last word is the true one.
    fn publish(&self, reasons: &Reasons) {
        let ready = reasons.held.is_empty();
        self.ready.send_if_modified(|published| std::mem::replace(published, ready) != ready);
    }
}

/// A reason not to be ready, for as long as it lives.
#[derive(Debug)]
#[must_use = "readiness is given back at once when the guard is dropped"]
pub struct ReadyGuard {
    readiness: Readiness,
    id: u64,
}

impl ReadyGuard {
    /// Says the reason in other words, as it becomes clearer.
    pub fn restate(&self, reason: impl Into<String>) {
        let mut reasons = self.readiness.0.reasons();
        if let Some((_, held)) = reasons.held.iter_mut().find(|(id, _)| *id == self.id) {
            *held = reason.into();
        }
    }
}

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        let mut reasons = self.readiness.0.reasons();
        reasons.held.retain(|(id, _)| *id != self.id);
        self.readiness.0.publish(&reasons);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_while_nobody_has_a_reason() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let first = readiness.block("no configuration yet");
        let second = readiness.block("draining");
        assert_eq!(readiness.reasons(), ["no configuration yet", "draining"]);
        first.restate("the control plane is not reached");
        assert_eq!(readiness.reasons()[0], "the control plane is not reached");
        drop(first);
        assert!(!readiness.is_ready());
        drop(second);
        assert!(readiness.is_ready() && readiness.reasons().is_empty());
    }

    #[tokio::test]
    async fn changes_are_told_once() {
        let readiness = Readiness::default();
        let mut changes = readiness.changes();
        let guards = [readiness.block("a"), readiness.block("b")];
        changes.changed().await.expect("alive");
        assert!(!*changes.borrow_and_update());
        drop(guards);
        readiness.ready().await;
        changes.changed().await.expect("alive");
        assert!(*changes.borrow_and_update());
        assert!(!changes.has_changed().expect("alive"));
    }
}
