//! What a decision says about itself (design D7): nothing in traffic, every step in `explain`.

use crate::origin::Origin;

/// A listener to the steps of a decision. `()` is the one of traffic and costs no code.
pub trait Trace {
    /// Told of one step; `step` is only called by those who want to know.
    fn step(&mut self, step: impl FnOnce() -> Step);
}

impl Trace for () {
    #[inline]
    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

/// Keeps every step, for `explain`, `why` and `tap`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording(pub Vec<Step>);

impl Trace for Recording {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.0.push(step());
    }
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What was decided on, such as `virtual host`.
    pub about: &'static str,
    /// What came out, in words.
    pub outcome: String,
    /// The object that made it so.
    pub origin: Option<Origin>,
}

impl Step {
    /// A step whose outcome no object is responsible for.
    #[must_use]
    pub fn new(about: &'static str, outcome: impl Into<String>) -> Self {
        Self { about, outcome: outcome.into(), origin: None }
    }

    /// A step that `origin` is responsible for.
    #[must_use]
    pub fn by(mut self, origin: Option<&Origin>) -> Self {
        self.origin = origin.cloned();
        self
    }
}
