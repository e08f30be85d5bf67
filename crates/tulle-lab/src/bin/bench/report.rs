//! What was measured, as a table and as JSON.

use anyhow::Result;
use serde_json::{Value, json};

use crate::profiles::{Effort, Figures, Outcome, Profile};

/// How often the rounds are drawn anew for a bound.
const RESAMPLES: usize = 2_000;
/// Width of a column.
const COLUMN: usize = 17;

/// The table of one profile: medians of the rounds, and how tulle stands to each peer.
pub fn table(profile: Profile, outcome: &Outcome) -> String {
    let columns = columns(outcome, profile.main_figure());
    let mut lines = vec![profile.title().to_owned()];
    let head: String = columns.iter().map(|name| format!("{name:>COLUMN$}")).collect();
    lines.push(format!("{:<8}{head}  tulle / it (95 %)", ""));
    for (name, rounds) in outcome {
        let cell = |column: &String| match median(values(rounds, column)) {
            Some(value) if value < 1_000.0 => format!("{value:>COLUMN$.2}"),
            Some(value) => format!("{value:>COLUMN$.0}"),
            None => format!("{:>COLUMN$}", "-"),
        };
        let cells: String = columns.iter().map(cell).collect();
        let ratio = ratio_to(outcome, rounds, profile.main_figure());
        let ratio = ratio.filter(|_| *name != "tulle");
        let ratio = ratio.map_or(String::new(), |Ratio { middle, low, high }| {
            format!("  {middle:.3} ({low:.3}-{high:.3})")
        });
        lines.push(format!("{name:<8}{cells}{ratio}"));
    }
    lines.join("\n")
}

/// Everything that was measured.
pub fn json(
    profile: Profile,
    effort: Effort,
    versions: &[(&str, String)],
    outcome: &Outcome,
) -> Result<String> {
    let figure = profile.main_figure();
    let subjects: Vec<Value> = outcome
        .iter()
        .map(|(name, rounds)| {
            let ratio = ratio_to(outcome, rounds, figure);
            let version = versions.iter().find(|(subject, _)| subject == name);
            json!({
                "subject": name,
                "version": version.map(|(_, version)| version),
                "rounds": rounds,
                "tulle_ratio": ratio.map(|Ratio { middle, low, high }| [low, middle, high]),
            })
        })
        .collect();
    let value = json!({
        "profile": profile.name(),
        "title": profile.title(),
        "main_figure": figure,
        "rounds": effort.rounds,
        "seconds": effort.seconds,
        "subjects": subjects,
    });
    Ok(serde_json::to_string_pretty(&value)?)
}

/// Names of all figures, the main one first.
fn columns(outcome: &Outcome, main: &str) -> Vec<String> {
    let rounds = outcome.iter().flat_map(|(_, rounds)| rounds);
    let mut names: Vec<String> = rounds.flat_map(|round| round.keys().cloned()).collect();
    names.sort();
    names.dedup();
    names.sort_by_key(|name| name != main);
    names
}

fn values(rounds: &[Figures], name: &str) -> Vec<f64> {
    rounds.iter().filter_map(|round| round.get(name).copied()).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => values.get(middle).copied(),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// A ratio and what 95 % of the resampled ones lie between.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratio {
    middle: f64,
    low: f64,
    high: f64,
}

/// Tulle's figure over that of `rounds`.
fn ratio_to(outcome: &Outcome, rounds: &[Figures], name: &str) -> Option<Ratio> {
    let (_, ours) = outcome.iter().find(|(subject, _)| *subject == "tulle")?;
    ratio(&values(ours, name), &values(rounds, name))
}

/// The ratio of the medians, bounded by drawing the rounds anew, each with its neighbours.
fn ratio(ours: &[f64], theirs: &[f64]) -> Option<Ratio> {
    let pairs: Vec<(f64, f64)> = ours.iter().copied().zip(theirs.iter().copied()).collect();
    let of = |pairs: &[(f64, f64)]| {
        let ours = median(pairs.iter().map(|pair| pair.0).collect())?;
        let theirs = median(pairs.iter().map(|pair| pair.1).collect())?;
        (theirs != 0.0).then(|| ours / theirs)
    };
    let middle = of(&pairs)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pairs[(state % pairs.len() as u64) as usize]
    };
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| of(&(0..pairs.len()).map(|_| draw()).collect::<Vec<_>>()))
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((drawn.len() as f64 * share) as usize).copied();
    Some(Ratio { middle, low: at(0.025)?, high: at(0.975)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_lie_within_their_bounds() {
        let found = ratio(&[1.0, 1.1, 0.9, 1.0], &[2.0, 2.2, 1.8, 2.0]).unwrap();
        assert!((found.middle - 0.5).abs() < 1e-9, "{found:?}");
        assert!(found.low <= found.middle && found.middle <= found.high);
        assert!(found.low >= 0.9 / 2.2 && found.high <= 1.1 / 1.8);
        assert_eq!(ratio(&[], &[]), None);
    }

    #[test]
    fn the_middle_of_an_even_number_of_rounds() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
