//! What was observed: a line for each check, and the same as a page of documentation.

use crate::checks::{Evidence, Verdict};

/// Prints a line for each check and the sum.
pub fn print(verdicts: &[Verdict]) {
    for Verdict { check, holds, observed } in verdicts {
        println!("{} {}: {observed}", mark(*holds), check.name());
    }
    let failed: Vec<_> =
        verdicts.iter().filter(|one| !one.holds).map(|one| one.check.name()).collect();
    match failed.is_empty() {
        true => println!("All {} checks hold.", verdicts.len()),
        false => println!("Failed: {}", failed.join(", ")),
    }
}

/// The page of documentation.
pub fn document(evidence: &Evidence<'_>, verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for Verdict { check, holds, observed } in verdicts {
        text.push_str(&format!("| {} | {} | {observed} |\n", check.name(), mark(*holds).trim()));
    }
    let _ = evidence;
    text
}

fn mark(holds: bool) -> &'static str {
    if holds { "ok  " } else { "FAIL" }
}
