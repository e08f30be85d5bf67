//! Counting in threads, reading in another.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::registry::EVICT_AFTER;
use super::*;

crate::metrics! {
    /// A group of every kind.
    struct Kettle(Tulle, ["kettle", "room"]) {
        counter boiled = "tulle_kettle_boiled_total", "How often\nit \\ boiled.";
        histogram seconds(&[1.0, 2.5]) = "tulle_kettle_seconds", "Time to boil.";
        counter tea = "tulle_kettle_cups_total" ["drink=\"tea\""], "Cups.";
        counter coffee = "tulle_kettle_cups_total" ["drink=\"coffee\""], "Cups.";
        gauge litres = "tulle_kettle_litres", "What is in it.";
    }
}

crate::metrics! {
    /// Somebody else's names.
    struct Foreign(Envoy, ["name"]) {
        counter seen = "envoy_seen", "Seen.";
    }
}

#[test]
fn everything_is_written_as_prometheus_reads_it() {
    let registry = Registry::new(&[]);
    let local = registry.local();
    let kettle = Kettle::new(&local, &["a\"b\\c\nd", "é"]);
    kettle.boiled().inc();
    kettle.boiled().add(2);
    for seconds in [0.5, 1.0, 2.0, 9.0] {
        kettle.seconds().observe(seconds);
    }
    kettle.coffee().inc();
    kettle.litres().set(-3);
    kettle.litres().inc();
    let labels = r#"kettle="a\"b\\c\nd",room="é""#;
    let expected = format!(
        r#"# HELP tulle_kettle_boiled_total How often\nit \\ boiled.
# TYPE tulle_kettle_boiled_total counter
tulle_kettle_boiled_total{{{labels}}} 3
# HELP tulle_kettle_seconds Time to boil.
# TYPE tulle_kettle_seconds histogram
tulle_kettle_seconds_bucket{{{labels},le="1"}} 2
tulle_kettle_seconds_bucket{{{labels},le="2.5"}} 3
tulle_kettle_seconds_bucket{{{labels},le="+Inf"}} 4
tulle_kettle_seconds_sum{{{labels}}} 12.5
tulle_kettle_seconds_count{{{labels}}} 4
# HELP tulle_kettle_cups_total Cups.
# TYPE tulle_kettle_cups_total counter
tulle_kettle_cups_total{{{labels},drink="tea"}} 0
tulle_kettle_cups_total{{{labels},drink="coffee"}} 1
# HELP tulle_kettle_litres What is in it.
# TYPE tulle_kettle_litres gauge
tulle_kettle_litres{{{labels}}} -2
"#
    );
    assert_eq!(registry.render(), expected);
    let samples = registry.samples();
    assert!(samples.contains(&(format!("tulle_kettle_seconds_sum{{{labels}}}"), 12.5)));
    assert!(samples.contains(&(format!("tulle_kettle_litres{{{labels}}}"), -2.0)));
}

#[test]
fn threads_count_alone_and_are_added_up() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 20_000;
    let registry = Registry::new(&[]);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let registry = registry.clone();
            scope.spawn(move || {
                let local = registry.local();
                let kettle = Kettle::new(&local, &["shared"]);
                for _ in 0..ROUNDS {
                    kettle.boiled().inc();
                    kettle.seconds().observe(2.0);
                    kettle.litres().inc();
                    kettle.litres().dec();
                }
            });
        }
        // A scrape while they count sees whole numbers that only grow.
        let mut last = 0.0;
        for _ in 0..50 {
            let samples = registry.samples();
            let boiled = samples.iter().find(|(name, _)| name.starts_with("tulle_kettle_boiled"));
            let boiled = boiled.map_or(0.0, |(_, value)| *value);
            assert!(boiled >= last);
            last = boiled;
        }
    });
    let text = registry.render();
    let labels = r#"{kettle="shared",room=""}"#;
    for line in [
        format!("tulle_kettle_boiled_total{labels} {}\n", THREADS * ROUNDS),
        format!("tulle_kettle_seconds_count{labels} {}\n", THREADS * ROUNDS),
        format!("tulle_kettle_seconds_sum{labels} {}\n", THREADS * ROUNDS * 2),
        format!("tulle_kettle_litres{labels} 0\n"),
    ] {
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[test]
fn the_same_labels_are_the_same_series() {
    let registry = Registry::new(&[Dialect::Envoy]);
    let local = registry.local();
    for _ in 0..3 {
        Foreign::new(&local, &["a"]).seen().inc();
    }
    Foreign::new(&local, &["b"]).seen().inc();
    let text = registry.render();
    assert!(text.contains("envoy_seen{name=\"a\"} 3\nenvoy_seen{name=\"b\"} 1\n"), "{text}");
}

#[test]
fn other_dialects_are_counted_for_nobody() {
    let registry = Registry::new(&[Dialect::Istio]);
    let local = registry.local();
    for name in ["a", "b"] {
        Foreign::new(&local, &[name]).seen().inc();
    }
    assert_eq!(registry.render(), "");
}

#[test]
fn series_have_a_limit_and_what_it_costs_is_counted() {
    let registry = Registry::with_limit(&[Dialect::Envoy], 3);
    let local = registry.local();
    let kept: Vec<_> = (0..10).map(|name| Foreign::new(&local, &[&name.to_string()])).collect();
    for series in &kept {
        series.seen().inc();
    }
    let text = registry.render();
    assert_eq!(text.matches("envoy_seen{").count(), 3, "{text}");
    assert!(text.contains("tulle_metrics_series_dropped_total 7\n"), "{text}");
    assert_eq!(Foreign::new(&local, &["1"]).seen().value(), 1, "known ones are still found");
}

#[test]
fn what_nobody_uses_is_forgotten_in_time_and_makes_room() {
    let registry = Registry::with_limit(&[Dialect::Envoy], 2);
    let local = registry.local();
    let used = Foreign::new(&local, &["used"]);
    Foreign::new(&local, &["gone"]).seen().inc();
    let start = Instant::now();
    registry.sweep(start);
    registry.sweep(start + EVICT_AFTER - Duration::from_secs(1));
    assert!(registry.render().contains("gone"), "kept for a last scrape");
    Foreign::new(&local, &["gone"]).seen().inc();
    assert!(registry.render().contains("envoy_seen{name=\"gone\"} 2\n"), "it came back");
    registry.sweep(start + EVICT_AFTER);
    let text = registry.render();
    assert!(!text.contains("gone") && text.contains("used"), "{text}");
    Foreign::new(&local, &["new"]).seen().inc();
    assert!(registry.render().contains("new"), "there is room again");
    used.seen().inc();
}

proptest! {
    #[test]
    fn any_label_value_is_one_line_that_reads_back(value in any::<String>()) {
        let text = exposition::labels_text(&["a"], &[&value]);
        prop_assert!(!text.contains('\n'));
        let inside = text.strip_prefix("a=\"").and_then(|text| text.strip_suffix('"'));
        let mut read = String::new();
        let mut characters = inside.expect("quoted").chars();
        while let Some(character) = characters.next() {
            prop_assert_ne!(character, '"', "not escaped");
            read.push(match character {
                '\\' => match characters.next() {
                    Some('n') => '\n',
                    Some(other) => other,
                    None => panic!("a backslash at the end"),
                },
                other => other,
            });
        }
        prop_assert_eq!(read, value);
    }

    #[test]
    fn histograms_count_like_a_sorted_list(values in proptest::collection::vec(0.0..1e7, 0..50)) {
        let registry = Registry::new(&[]);
        let local = registry.local();
        let kettle = Kettle::new(&local, &["k"]);
        for value in &values {
            kettle.seconds().observe(*value);
        }
        let text = registry.render();
        for bound in [1.0, 2.5] {
            let count = values.iter().filter(|value| **value <= bound).count();
            let line = format!(r#"le="{bound}"}} {count}"#);
            prop_assert!(text.contains(&line), "{} is not in {}", line, text);
        }
        let line = format!(r#"_count{{kettle="k",room=""}} {}"#, values.len());
        prop_assert!(text.contains(&line));
    }
}
