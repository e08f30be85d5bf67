//! Tests of the back-off and of the text of a NACK.

use super::*;

#[test]
fn backoff_grows_to_its_limit_and_is_a_function_of_its_arguments() {
    for seed in 0..1_000 {
        for attempt in 0..40 {
            let wait = backoff(attempt, seed);
            let limit = Duration::from_secs(if attempt < 14 { 1 } else { 5 });
            let step = BACKOFF_FIRST.saturating_mul(1 << attempt.min(16)).min(limit);
            assert!(wait >= step / 2 && wait <= step, "attempt {attempt}, seed {seed}: {wait:?}");
            assert_eq!(wait, backoff(attempt, seed));
        }
    }
}

/// A request waits five seconds for a name: a server that is back after three must be found.
#[test]
fn a_restart_is_found_within_a_second() {
    for seed in 0..1_000 {
        let mut at = Duration::ZERO;
        let attempts = (0..).map(|attempt| {
            at += backoff(attempt, seed);
            at
        });
        let back = Duration::from_secs(3);
        let found = attempts.take(100).find(|at| *at >= back).expect("attempts go on");
        assert!(found - back <= Duration::from_secs(1), "seed {seed}: {found:?}");
    }
}

#[test]
fn backoff_spreads_a_crowd() {
    let mut waits: Vec<Duration> = (0..100).map(|seed| backoff(20, seed)).collect();
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 95);
    assert!(waits[99] - waits[0] > Duration::from_secs(2));
}

#[test]
fn the_text_of_a_nack_is_bounded_and_counts_what_it_leaves_out() {
    let rejected: Vec<(Name, String)> =
        (0..500).map(|index| (format!("c{index}").into(), "ä".repeat(50))).collect();
    let text = describe_rejected(&rejected);
    assert!(text.len() <= ERROR_DETAIL_BYTES, "{}", text.len());
    assert!(text.starts_with("c0: ä") && text.ends_with(" more"), "{text}");
}
