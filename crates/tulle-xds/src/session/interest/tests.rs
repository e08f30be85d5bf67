//! Tests of reference counts, unused time and the limits on names.

use super::super::client::{AbsentReason, UNUSED_LIMIT};
use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_name_expires_five_minutes_after_its_last_referrer() {
    let start = Instant::now();
    let mut interest = Interest::default();
    let name: Name = "a".into();
    assert!(interest.subscribe(&name, start));
    assert!(!interest.subscribe(&name, start));
    interest.release("a", start);
    assert!(
        interest.expired(start + seconds(9_999), UNUSED_LIMIT).is_empty(),
        "one referrer is left"
    );
    interest.release("a", start + seconds(10));
    assert!(interest.expired(start + seconds(309), UNUSED_LIMIT).is_empty());
    assert_eq!(interest.expired(start + seconds(310), UNUSED_LIMIT), vec![name]);
}

#[test]
fn a_use_puts_expiry_off_and_the_wildcard_never_expires() {
    let start = Instant::now();
    let mut interest = Interest::default();
    interest.use_name(&"a".into(), start);
    interest.use_name(&WILDCARD.into(), start);
    interest.use_name(&"a".into(), start + seconds(200));
    assert!(interest.expired(start + seconds(499), UNUSED_LIMIT).is_empty());
    assert_eq!(interest.expired(start + seconds(500), UNUSED_LIMIT), vec![Name::from("a")]);
}

#[test]
fn the_negative_name_used_longest_ago_is_dropped_first() {
    let start = Instant::now();
    let mut interest = Interest::default();
    for index in 0..=NEGATIVE_NAMES_LIMIT as u64 {
        let name: Name = format!("n{index}").into();
        interest.use_name(&name, start + seconds(if index == 7 { 0 } else { 1 + index }));
        interest.answered(&name, Answer::Absent(AbsentReason::NotFound));
    }
    assert_eq!(interest.negative_too_many(), Some("n7".into()));
    interest.remove("n7");
    assert_eq!(interest.negative_too_many(), None);
}
