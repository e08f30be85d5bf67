//! The loop: a decision that needs a name gets it, then is taken again.
//!
//! The same as in the proxy, except that the answer comes from [`translate`] at once.

use tulle_model::lookup::{Absence, Decision, Needed};
use tulle_model::snapshot::{Change, Snapshot};
use tulle_model::trace::{Recording, Step, Trace};

use super::decided::Decided;
use crate::client::Client;
use crate::translate::translate;
use crate::world::World;

/// What a proxy would hold by now, and the steps taken so far.
pub(super) struct Store<'w> {
    world: &'w World,
    client: &'w Client,
    now: Snapshot,
    steps: Recording,
    pub(super) decided: Decided,
}

impl<'w> Store<'w> {
    pub(super) fn new(world: &'w World, client: &'w Client) -> Self {
        Store {
            world,
            client,
            now: Snapshot::new(true),
            steps: Recording::default(),
            decided: Decided::default(),
        }
    }

    pub(super) fn world(&self) -> &'w World {
        self.world
    }

    pub(super) fn into_told(self) -> (Vec<Step>, Decided) {
        (self.steps.0, self.decided)
    }

    /// Tells of a step that no decision function tells of.
    pub(super) fn step(&mut self, step: Step) {
        self.steps.step(|| step);
    }

    /// Takes `decide` until it needs nothing more; only the last time is told of.
    pub(super) fn decide<T>(
        &mut self,
        decide: impl Fn(&Snapshot, &mut Recording) -> Decision<T>,
    ) -> T {
        loop {
            let mut steps = Recording::default();
            match decide(&self.now, &mut steps) {
                Decision::Decided(value) => {
                    self.steps.0.append(&mut steps.0);
                    return value;
                }
                Decision::Need(need) => self.ask(need),
            }
        }
    }

    /// After this the name is present or absent, never unknown: every loop ends.
    fn ask(&mut self, need: Needed) {
        let change = match translate(&need, self.world, self.client).resource {
            Some(resource) => {
                let alias = (resource.name() != need.name()).then(|| need.name().into());
                Change::Put(resource, alias.into_iter().collect())
            }
            None => Change::Absent(need, Absence::NotFound),
        };
        self.now = self.now.with([change]);
    }
}
