//! How a process, or a listener, ends without breaking anything: announce, wait, leave.
//!
//! `Serving → LameDuck → Closing → Done`. A lame duck still accepts, because callers may not have
//! heard yet, and tells each connection to go away (`Connection: close`, GOAWAY). It leaves when
//! nobody is connected any more, or when its time is over. [`Drain`] decides and does no I/O;
//! [`driver`] carries its actions out; [`load`] counts what is still there.

pub mod driver;
pub mod load;

use std::time::{Duration, Instant};

use load::Load;
use tulle_model::name::Direction;

/// Envoy's default for the longest time of draining.
pub const DRAIN_TIME: Duration = Duration::from_secs(600);
/// How long a process goes on accepting after the control plane said that callers are told of its
/// end: callers need that long to hear of it.
pub const SETTLE_TIME: Duration = Duration::from_secs(1);
/// How long connections may go on after the end of the lame duck before they are cut, when the
/// process is to exit.
pub const CLOSE_TIME: Duration = Duration::from_secs(5);
/// How long closing lasts at least: connections that the kernel has made by then are served.
pub const LAST_ACCEPT: Duration = Duration::from_millis(50);
/// How long is waited for connections that were cut to be gone.
pub const CUT_TIME: Duration = Duration::from_secs(1);

/// Where a drain stands. Only ever goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing ends.
    #[default]
    Serving,
    /// Accepting still; connections are told to go away.
    LameDuck,
    /// Accepting nothing from others; idle connections are closed, the rest finish what they do.
    Closing,
    /// Nothing is left.
    Done,
}

/// How connections are told to go away (`--drain-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// With a likelihood that grows from 0 to 1 over the time of the drain.
    #[default]
    Gradual,
    /// All at their next response.
    Immediate,
}

/// One way to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Longest life as a lame duck; zero goes to closing at once.
    pub time: Duration,
    /// Shortest life as a lame duck, from the moment the registration is withdrawn.
    pub settle: Duration,
    /// There is a registration to be withdrawn first.
    pub withdraw: bool,
    /// How connections are told.
    pub strategy: Strategy,
    /// Idle connections are closed once settled; else only when closing.
    pub close_idle: bool,
    /// In closing, connections are cut after so long; `None` waits for them.
    pub cut_after: Option<Duration>,
}

impl Plan {
    /// The end of the process (SIGTERM, `/quitquitquit`): leave as soon as nobody is there.
    #[must_use]
    pub fn shutdown(time: Duration, registered: bool) -> Self {
        Self {
            time,
            settle: if registered { SETTLE_TIME } else { Duration::ZERO },
            withdraw: registered,
            strategy: Strategy::Immediate,
            close_idle: true,
            cut_after: Some(CLOSE_TIME),
        }
    }

    /// The end of all listeners while the process lives (`/drain_listeners?graceful`): accept for
    /// the whole time.
    #[must_use]
    pub fn listeners(time: Duration, strategy: Strategy) -> Self {
        Self { time, settle: time, withdraw: false, strategy, close_idle: false, cut_after: None }
    }

    /// The end of one listener that left the configuration, and accepts nothing any more: whoever
    /// is there may stay for the whole time, and is cut after it.
    #[must_use]
    pub fn left(time: Duration, strategy: Strategy) -> Self {
        let (settle, cut_after) = (Duration::ZERO, Some(Duration::ZERO));
        Self { time, settle, withdraw: false, strategy, close_idle: false, cut_after }
    }

    /// The end of listeners at once (`/drain_listeners`): connections finish, nothing is accepted.
    #[must_use]
    pub fn listeners_now() -> Self {
        Self::listeners(Duration::ZERO, Strategy::Immediate)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants the end. A second one can only bring it nearer.
    Begin(Plan),
    /// The control plane has withdrawn the registration: callers are being told.
    Withdrawn,
    /// There is no control plane to withdraw it: callers will not hear of the end, so that they
    /// would come for ever. Whom they cannot reach, they try elsewhere.
    Unheard,
    /// What is still there now.
    Load(Load),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Not ready any more: have the registration withdrawn, then say [`Event::Withdrawn`].
    Withdraw,
    /// Tell the workers.
    Publish(View),
    /// Close the listening sockets, by what [`View::accepts`] says of each.
    StopAccepting,
    /// Cut every connection that is left.
    CutConnections,
    /// Nothing is left to do; comes once and last.
    Finish,
}

/// What a worker sees of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Where it stands.
    pub phase: Phase,
    /// Connections without a request are to be closed.
    pub close_idle: bool,
    /// Whatever is still there is to be closed without regard.
    pub cut: bool,
    exits: bool,
    announce: Option<Announcement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcement {
    strategy: Strategy,
    began: Instant,
    until: Instant,
}

impl View {
    /// Nothing ends.
    pub const SERVING: Self =
        Self { phase: Phase::Serving, close_idle: false, cut: false, exits: false, announce: None };

    /// Whether listeners of this direction accept. Before a process exits, the workload may call
    /// others for as long as it is at work on what it was asked: to the end.
    #[must_use]
    pub fn accepts(&self, direction: Direction) -> bool {
        let last = match direction {
            Direction::Outbound if self.exits => Phase::Closing,
            Direction::Outbound | Direction::Inbound | Direction::Unspecified => Phase::LameDuck,
        };
        self.phase <= last
    }

    /// Whether every connection is told to go away, whatever it does.
    #[must_use]
    pub fn tells_all_to_go(&self, now: Instant) -> bool {
        self.tells_to_go(now, u32::MAX)
    }

    /// Whether a connection is to be told to go away with the response it is about to send.
    /// `dice` is a fresh uniform number.
    #[must_use]
    pub fn tells_to_go(&self, now: Instant, dice: u32) -> bool {
        let Some(Announcement { strategy, began, until }) = self.announce else { return false };
        if self.phase >= Phase::Closing || strategy == Strategy::Immediate || now >= until {
            return true;
        }
        let passed = now.saturating_duration_since(began).as_secs_f64();
        let whole = until.saturating_duration_since(began).as_secs_f64();
        f64::from(dice) < passed / whole * f64::from(u32::MAX)
    }
}

/// Decides about one drain.
#[derive(Debug, Default)]
pub struct Drain {
    state: State,
    load: Load,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Serving,
    LameDuck {
        plan: Plan,
        began: Instant,
        /// The end of the lame duck at the latest.
        until: Instant,
        /// Its end where callers will not hear of it.
        unheard: Option<Instant>,
        /// When it may leave if nobody is there; `None` until the registration is withdrawn.
        settled: Option<Instant>,
        closing_idle: bool,
    },
    Closing {
        began: Instant,
        cut_at: Option<Instant>,
        cut: bool,
        exits: bool,
    },
    Done,
}

impl Drain {
    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Serving => Phase::Serving,
            State::LameDuck { .. } => Phase::LameDuck,
            State::Closing { .. } => Phase::Closing,
            State::Done => Phase::Done,
        }
    }

    /// Takes note of `event` at `now` and says what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Begin(plan) => self.begin(plan, now, &mut actions),
            Event::Withdrawn => self.note_withdrawn(now),
            Event::Unheard => self.note_unheard(now),
            Event::Load(load) => self.load = load,
            Event::Tick => {}
        }
        self.advance(now, &mut actions);
        self.check_invariants();
        actions
    }

    fn begin(&mut self, new: Plan, now: Instant, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Serving => {
                if new.withdraw {
                    actions.push(Action::Withdraw);
                }
                let settled = (!new.withdraw).then(|| now + new.settle);
                let until = now + new.time;
                self.state = State::LameDuck {
                    plan: new,
                    began: now,
                    until,
                    unheard: None,
                    settled,
                    closing_idle: false,
                };
                actions.push(Action::Publish(self.view()));
            }
            State::LameDuck { plan, until, settled, closing_idle, .. } => {
                let before = (*plan, *until);
                *until = (*until).min(now + new.time);
                if let Some(settled) = settled {
                    *settled = (*settled).min(now + new.settle);
                }
                if new.withdraw && !plan.withdraw {
                    plan.withdraw = true;
                    // Callers are told only now: idle connections are theirs again.
                    (*settled, *closing_idle) = (None, false);
                    actions.push(Action::Withdraw);
                }
                plan.settle = plan.settle.min(new.settle);
                plan.close_idle |= new.close_idle;
                plan.cut_after = sooner(plan.cut_after, new.cut_after);
                if new.strategy == Strategy::Immediate {
                    plan.strategy = Strategy::Immediate;
                }
                if before != (*plan, *until) {
                    actions.push(Action::Publish(self.view()));
                }
            }
            State::Closing { cut_at, .. } => {
                let new_cut = new.cut_after.map(|after| now + after);
                *cut_at = sooner(*cut_at, new_cut);
            }
            State::Done => {}
        }
    }

    fn note_withdrawn(&mut self, now: Instant) {
        if let State::LameDuck { plan, settled, .. } = &mut self.state {
            settled.get_or_insert(now + plan.settle);
        }
    }

    fn note_unheard(&mut self, now: Instant) {
        if let State::LameDuck { plan, unheard, settled: settled @ None, .. } = &mut self.state {
            let leaves = now + plan.settle;
            (*settled, *unheard) = (Some(leaves), Some(leaves));
        }
    }

    /// Goes as far forward as time and load allow.
    fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::LameDuck { plan, until, unheard, settled, closing_idle, .. } = &mut self.state
        {
            let is_settled = settled.is_some_and(|settled| now >= settled);
            let is_unheard = unheard.is_some_and(|unheard| now >= unheard);
            if now >= *until || is_unheard || (is_settled && self.load.connections == 0) {
                // Who leaves early, because nobody hears of it, still lets everybody finish.
                let cut_at = plan.cut_after.map(|after| now.max(*until) + after);
                let exits = cut_at.is_some();
                self.state = State::Closing { began: now, cut_at, cut: false, exits };
                actions.extend([Action::StopAccepting, Action::Publish(self.view())]);
            } else if is_settled && plan.close_idle && !*closing_idle {
                *closing_idle = true;
                actions.push(Action::Publish(self.view()));
            }
        }
        if let State::Closing { cut_at, cut, began, .. } = &mut self.state {
            let late = cut_at.is_some_and(|at| now >= at);
            // Who connected in the last moment is still to be accepted and counted.
            let is_quiet = self.load.connections == 0 && now >= *began + LAST_ACCEPT;
            if is_quiet || (late && *cut) {
                self.state = State::Done;
                actions.push(Action::Finish);
            } else if late {
                *cut = true;
                *cut_at = Some(now + CUT_TIME);
                actions.extend([Action::CutConnections, Action::Publish(self.view())]);
            }
        }
    }

    /// What workers see.
    #[must_use]
    pub fn view(&self) -> View {
        let phase = self.phase();
        match &self.state {
            State::Serving => View::SERVING,
            State::LameDuck { plan, began, until, closing_idle, .. } => {
                let announce =
                    Announcement { strategy: plan.strategy, began: *began, until: *until };
                let close_idle = *closing_idle;
                View { phase, close_idle, announce: Some(announce), ..View::SERVING }
            }
            State::Closing { began, cut, exits, .. } => {
                let (cut, exits) = (*cut, *exits);
                let strategy = Strategy::Immediate;
                let announce = Announcement { strategy, began: *began, until: *began };
                View { phase, close_idle: true, cut, exits, announce: Some(announce) }
            }
            State::Done => View { phase, close_idle: true, cut: true, ..View::SERVING },
        }
    }

    fn check_invariants(&self) {
        if let State::LameDuck { began, until, closing_idle, settled, .. } = &self.state {
            debug_assert!(until >= began, "a drain cannot end before it began");
            debug_assert!(!closing_idle || settled.is_some(), "idle connections closed too early");
        }
        if let State::Closing { cut, cut_at, .. } = &self.state {
            debug_assert!(!cut || cut_at.is_some(), "cut without an end");
        }
    }
}

fn sooner<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
