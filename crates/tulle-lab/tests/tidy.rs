//! The source tree obeys the house rules (`tulle_lab::tidy`).

use std::path::Path;

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let findings = tulle_lab::tidy::check(&root).expect("the tree is readable");
    let report: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), report.join("\n"));
}
