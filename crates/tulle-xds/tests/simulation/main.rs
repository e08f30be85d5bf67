//! Seeded simulation of the session cores: real clients and servers of both protocol variants, a
//! virtual clock, a network that delays and cuts, a server that restarts, a world that is edited.
//!
//! Rules checked at every step: no route live without a warm cluster; nothing applied that the
//! client may not see; nothing removed before its referrer was acknowledged; no name subscribed
//! twice; no held version sent again; at the end every client has what `translate` says.
//!
//! `TULLE_SIM_SEED=n` replays one seed with its log (`-- --nocapture`), `TULLE_SIM_BUG=name` with a
//! planted bug; `TULLE_SIM_SEEDS=n` runs another number of seeds.

mod ledger;
mod mutation;
mod peer;
mod random;
mod sim;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use mutation::Bug;

/// Seeds that must run without breaking a rule.
const SEEDS: u64 = 10_000;
/// Seeds within which every planted bug must be found.
const BUG_SEEDS: u64 = 1_000;

const REPLAY: &str = "cargo test -p tulle-xds --test simulation no_seed -- --nocapture";

#[test]
fn no_seed_breaks_a_rule() {
    let (first, count) = match (number("TULLE_SIM_SEED"), number("TULLE_SIM_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, count) => (0, count.unwrap_or(SEEDS)),
    };
    let (log, next) = (count == 1, AtomicU64::new(first));
    let work = || -> Result<(), String> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return Ok(());
            }
            sim::run(seed, planted(), log)?;
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<Result<(), String>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles.into_iter().map(|handle| handle.join().expect("no core panics")).collect()
    });
    for outcome in outcomes {
        if let Err(rule) = outcome {
            panic!("{rule}\nreplay: TULLE_SIM_SEED=<seed> {REPLAY}");
        }
    }
}

fn number(name: &str) -> Option<u64> {
    variable(name)?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "the settings of a test are its environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn planted() -> Bug {
    let name = variable("TULLE_SIM_BUG").unwrap_or_default();
    let bugs = [
        Bug::LostAck,
        Bug::StaleNonce,
        Bug::MissedRemoval,
        Bug::SentAgain,
        Bug::ResumeWithoutVersions,
        Bug::ReorderedTypes,
    ];
    bugs.into_iter().find(|bug| format!("{bug:?}") == name).unwrap_or(Bug::None)
}

/// The first seed of a planted bug that breaks the rule which is there for it; others it may break
/// too.
fn first_found(bug: Bug, rule: &str) -> (u64, String) {
    let found = (0..BUG_SEEDS).find_map(|seed| {
        let broken = sim::run(seed, bug, false).err()?;
        broken.contains(rule).then_some((seed, broken))
    });
    found.unwrap_or_else(|| panic!("{bug:?}: none of {BUG_SEEDS} seeds finds that {rule:?}"))
}

macro_rules! finds {
    ($($name:ident: $bug:ident by $($rule:literal),+;)*) => { $(
        #[test]
        fn $name() {
            for rule in [$($rule),+] {
                let (seed, broken) = first_found(Bug::$bug, rule);
                println!("found by seed {seed}: {broken}");
            }
        }
    )* };
}

finds! {
    finds_a_lost_ack: LostAck by "is left with";
    finds_a_stale_nonce: StaleNonce by "response that waits for one";
    finds_a_missed_removal: MissedRemoval by "is left with";
    finds_what_is_sent_again: SentAgain by "is held and sent again";
    finds_a_resume_without_versions: ResumeWithoutVersions by
        "is held and sent again", "comes back without its version";
    finds_reordered_types: ReorderedTypes by "is sent before", "is removed while";
}
