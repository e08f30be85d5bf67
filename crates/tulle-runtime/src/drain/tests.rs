//! The drain in examples, and in random lives under a virtual clock.

use std::time::{Duration, Instant};

use proptest::prelude::{Just, ProptestConfig, any, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::load::{LoadMeter, LoadReader};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn busy(connections: u64) -> Event {
    Event::Load(Load { connections, requests: 0 })
}

/// The actions without the views.
fn acts(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|action| !matches!(action, Action::Publish(_))).collect()
}

#[test]
fn a_shutdown_withdraws_settles_and_leaves_when_nobody_is_there() {
    let start = Instant::now();
    let mut drain = Drain::default();
    assert_eq!(drain.handle(busy(2), start), []);
    let begun = drain.handle(Event::Begin(Plan::shutdown(60 * SECOND, true)), start);
    assert_eq!(acts(begun), [Action::Withdraw]);
    assert!(drain.view().tells_to_go(start, u32::MAX));
    assert_eq!(acts(drain.handle(busy(0), start + SECOND)), [], "callers still come");
    drain.handle(Event::Withdrawn, start + SECOND);
    assert_eq!(acts(drain.handle(Event::Tick, start + SECOND)), [], "not settled");
    assert!(!drain.view().close_idle);
    drain.handle(busy(1), start + SECOND);
    assert_eq!(acts(drain.handle(Event::Tick, start + SECOND + SETTLE_TIME)), []);
    assert!(drain.view().close_idle, "settled: whoever is idle does not come back");
    let left = acts(drain.handle(busy(0), start + 3 * SECOND));
    assert_eq!(left, [Action::StopAccepting]);
    let last = start + 3 * SECOND + LAST_ACCEPT;
    assert_eq!(acts(drain.handle(busy(1), last)), [], "one that came in the last moment");
    assert_eq!(acts(drain.handle(busy(0), last)), [Action::Finish]);
    assert_eq!(drain.phase(), Phase::Done);
}

#[test]
fn a_shutdown_whose_withdrawal_is_never_answered_ends_in_time() {
    let start = Instant::now();
    let mut drain = Drain::default();
    drain.handle(busy(1), start);
    drain.handle(Event::Begin(Plan::shutdown(10 * SECOND, true)), start);
    assert_eq!(acts(drain.handle(Event::Tick, start + 9 * SECOND)), []);
    let late = acts(drain.handle(Event::Tick, start + 10 * SECOND));
    assert_eq!(late, [Action::StopAccepting]);
    let cut = acts(drain.handle(Event::Tick, start + 10 * SECOND + CLOSE_TIME));
    assert_eq!(cut, [Action::CutConnections]);
    assert!(drain.view().cut);
    let end = start + 10 * SECOND + CLOSE_TIME + CUT_TIME;
    assert_eq!(acts(drain.handle(Event::Tick, end)), [Action::Finish], "one that will not go");
}

#[test]
fn a_shutdown_of_which_callers_do_not_hear_refuses_them_soon_and_cuts_nobody() {
    let start = Instant::now();
    let mut drain = Drain::default();
    drain.handle(busy(2), start);
    drain.handle(Event::Begin(Plan::shutdown(60 * SECOND, true)), start);
    drain.handle(Event::Unheard, start + SECOND);
    let settled = start + SECOND + SETTLE_TIME;
    assert_eq!(acts(drain.handle(busy(2), settled - LAST_ACCEPT)), []);
    drain.handle(Event::Unheard, settled - LAST_ACCEPT);
    assert_eq!(acts(drain.handle(busy(2), settled)), [Action::StopAccepting]);
    assert_eq!(acts(drain.handle(busy(1), start + 60 * SECOND)), [], "somebody is still at work");
    let cut = start + 60 * SECOND + CLOSE_TIME;
    assert_eq!(acts(drain.handle(busy(1), cut)), [Action::CutConnections]);
}

#[test]
fn a_control_plane_that_goes_after_it_told_the_callers_changes_nothing() {
    let start = Instant::now();
    let mut drain = Drain::default();
    drain.handle(busy(1), start);
    drain.handle(Event::Begin(Plan::shutdown(60 * SECOND, true)), start);
    drain.handle(Event::Withdrawn, start);
    drain.handle(Event::Unheard, start);
    assert_eq!(acts(drain.handle(Event::Tick, start + 59 * SECOND)), []);
}

#[test]
fn what_the_workload_calls_is_served_until_the_process_ends() {
    use Direction::{Inbound, Outbound, Unspecified};
    let accepting = |drain: &Drain| {
        [Inbound, Unspecified, Outbound].map(|direction| drain.view().accepts(direction))
    };
    let start = Instant::now();
    let mut drain = Drain::default();
    assert_eq!(accepting(&drain), [true; 3]);
    drain.handle(busy(1), start);
    drain.handle(Event::Begin(Plan::shutdown(SECOND, true)), start);
    assert_eq!(accepting(&drain), [true; 3]);
    drain.handle(Event::Tick, start + SECOND);
    assert_eq!((drain.phase(), accepting(&drain)), (Phase::Closing, [false, false, true]));
    drain.handle(busy(0), start + 2 * SECOND);
    assert_eq!((drain.phase(), accepting(&drain)), (Phase::Done, [false; 3]));

    let mut listeners = Drain::default();
    listeners.handle(busy(1), start);
    listeners.handle(Event::Begin(Plan::listeners_now()), start);
    assert_eq!(accepting(&listeners), [false; 3], "all listeners were to end");
}

#[test]
fn listeners_drain_gradually_and_keep_their_connections() {
    let start = Instant::now();
    let mut drain = Drain::default();
    drain.handle(busy(1), start);
    drain.handle(Event::Begin(Plan::listeners(100 * SECOND, Strategy::Gradual)), start);
    let quarter = start + 25 * SECOND;
    let view = drain.view();
    assert!(view.tells_to_go(quarter, u32::MAX / 5) && !view.tells_to_go(quarter, u32::MAX / 3));
    assert!(!view.close_idle && !view.tells_to_go(start, 1));
    assert_eq!(acts(drain.handle(busy(0), quarter)), [], "accepts for the whole time");
    drain.handle(busy(1), quarter);
    let over = acts(drain.handle(Event::Tick, start + 100 * SECOND));
    assert_eq!(over, [Action::StopAccepting]);
    assert_eq!(acts(drain.handle(Event::Tick, start + 9000 * SECOND)), [], "nobody is cut");
    assert_eq!(acts(drain.handle(busy(0), start + 9001 * SECOND)), [Action::Finish]);
}

#[test]
fn listeners_drain_at_once() {
    let start = Instant::now();
    let mut drain = Drain::default();
    drain.handle(busy(1), start);
    let acted = acts(drain.handle(Event::Begin(Plan::listeners_now()), start));
    assert_eq!(acted, [Action::StopAccepting]);
    assert_eq!(drain.phase(), Phase::Closing);
}

#[test]
fn a_shutdown_during_a_drain_of_listeners_brings_the_end_nearer() {
    let start = Instant::now();
    let mut drain = Drain::default();
    drain.handle(busy(1), start);
    drain.handle(Event::Begin(Plan::listeners(600 * SECOND, Strategy::Gradual)), start);
    let acted = drain.handle(Event::Begin(Plan::shutdown(5 * SECOND, true)), start + SECOND);
    assert_eq!(acts(acted), [Action::Withdraw]);
    let acted = acts(drain.handle(Event::Tick, start + 6 * SECOND));
    assert_eq!(acted, [Action::StopAccepting]);
    assert_eq!(acts(drain.handle(Event::Tick, start + 11 * SECOND)), [Action::CutConnections]);
}

#[test]
fn guards_count() {
    let reader = LoadReader::default();
    let meter = LoadMeter::new(reader.clone());
    let (one, two, request) = (meter.connection(), meter.clone().connection(), meter.request());
    assert_eq!(reader.load(), Load { connections: 2, requests: 1 });
    drop((one, request));
    assert_eq!(LoadReader::sum([&reader, &reader]), Load { connections: 2, requests: 0 });
    drop(two);
    assert_eq!(meter.load(), Load::default());
}

#[tokio::test]
async fn the_driver_waits_for_what_it_counts() {
    let reader = LoadReader::default();
    let meter = LoadMeter::new(reader.clone());
    let guard = meter.connection();
    let (drainer, handle) = driver::Drainer::new(vec![reader]);
    let acted = std::cell::RefCell::new(Vec::new());
    let run = drainer.run(|action| acted.borrow_mut().push(action));
    let script = async {
        handle.begin(Plan::shutdown(600 * SECOND, false));
        handle.reached(Phase::LameDuck).await;
        assert!(handle.view().close_idle);
        assert!(acted.borrow().is_empty(), "somebody is connected");
        drop(guard);
        handle.reached(Phase::Done).await;
    };
    let both = async { tokio::join!(run, script) };
    tokio::time::timeout(10 * SECOND, both).await.expect("drained in time");
    assert_eq!(acted.into_inner(), [Action::StopAccepting, Action::Finish]);
}

#[derive(Clone, Debug)]
enum Step {
    Begin(Plan),
    Withdrawn,
    Unheard,
    Load(u64),
    Pass(u64),
}

fn plan() -> impl Generator<Value = Plan> {
    (0u64..30, any::<bool>(), any::<bool>(), 0u8..3).prop_map(|(seconds, flag, gradual, kind)| {
        let time = Duration::from_secs(seconds);
        let strategy = if gradual { Strategy::Gradual } else { Strategy::Immediate };
        match kind {
            0 => Plan::shutdown(time, flag),
            1 => Plan::listeners(time, strategy),
            _ => Plan::listeners_now(),
        }
    })
}

fn step() -> impl Generator<Value = Step> {
    prop_oneof![
        1 => plan().prop_map(Step::Begin),
        1 => Just(Step::Withdrawn),
        1 => Just(Step::Unheard),
        3 => (0u64..3).prop_map(Step::Load),
        3 => (0u64..8000).prop_map(Step::Pass),
    ]
}

/// What an observer of all actions may rely on.
#[derive(Default)]
struct Observer {
    phase: Phase,
    stopped: u32,
    withdrawn: u32,
    cut: u32,
    finished: u32,
}

impl Observer {
    fn see(&mut self, drain: &Drain, actions: &[Action], connections: u64) {
        for action in actions {
            assert_eq!(self.finished, 0, "{action:?} after the end");
            match action {
                Action::Withdraw => {
                    self.withdrawn += 1;
                    assert_eq!(self.stopped, 0, "withdrawn after accepting has stopped");
                }
                Action::Publish(view) => {
                    assert!(view.phase >= self.phase, "views only go forward");
                    assert!(!view.cut || view.phase == Phase::Closing);
                }
                Action::StopAccepting => self.stopped += 1,
                Action::CutConnections => {
                    self.cut += 1;
                    assert_eq!(self.stopped, 1, "cut while accepting");
                }
                Action::Finish => {
                    self.finished += 1;
                    assert_eq!(self.stopped, 1, "finished while accepting");
                    assert!(connections == 0 || self.cut == 1, "left somebody without a cut");
                }
            }
        }
        assert!(self.stopped <= 1 && self.withdrawn <= 1 && self.cut <= 1);
        assert!(drain.phase() >= self.phase, "back from {:?} to {:?}", self.phase, drain.phase());
        self.phase = drain.phase();
        assert_eq!(self.stopped == 1, self.phase >= Phase::Closing);
        assert_eq!(self.finished == 1, self.phase == Phase::Done);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_life_goes_forward_and_a_shutdown_ends(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut now = Instant::now();
        let (mut drain, mut observer) = (Drain::default(), Observer::default());
        let mut connections = 0;
        for step in steps {
            let event = match step {
                Step::Begin(plan) => Event::Begin(plan),
                Step::Withdrawn => Event::Withdrawn,
                Step::Unheard => Event::Unheard,
                Step::Load(load) => { connections = load; busy(load) }
                Step::Pass(millis) => { now += Duration::from_millis(millis); Event::Tick }
            };
            let actions = drain.handle(event, now);
            observer.see(&drain, &actions, connections);
        }
        // Whatever came before, a shutdown ends, even if nobody answers and nobody goes away.
        let shutdown = Plan::shutdown(SECOND, true);
        let mut actions = drain.handle(Event::Begin(shutdown), now);
        observer.see(&drain, &actions, connections);
        for wait in [shutdown.time, CLOSE_TIME, CUT_TIME] {
            now += wait;
            actions = drain.handle(Event::Tick, now);
            observer.see(&drain, &actions, connections);
        }
        prop_assert_eq!(drain.phase(), Phase::Done);
    }
}
