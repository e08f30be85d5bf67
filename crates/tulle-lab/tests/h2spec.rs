//! The conformance suite h2spec, run against the stock Envoy and `tulle-proxy` with the same
//! configuration at the same time. Ours passes at least as many cases, and every case that it
//! does not pass is listed here with the reason.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tulle_lab::backend::http1::Answer;
use tulle_lab::deadline::within;
use tulle_lab::envoy::{Program, tool};
use tulle_lab::oracle::Stage;

/// All cases of the suite that are not strict (v2.2.1).
const CASES: usize = 145;

/// Cases that `tulle-proxy` does not pass: its name in the report, and why that is right. There
/// are none: each case is demanded by RFC 9113 or allowed by it.
const NOT_PASSED: [(&str, &str); 0] = [];

/// A case waits so long for what should happen at once, in seconds.
const CASE_LIMIT: &str = "2";
/// The whole suite, when many cases are not passed and each waits for its limit.
const SUITE_LIMIT: Duration = Duration::from_secs(400);

/// More requests than the suite sends.
const REQUESTS: usize = 1000;

/// What a program made of the suite.
#[derive(Debug)]
struct Score {
    passed: usize,
    failed: BTreeSet<String>,
}

async fn run(program: Program<'_>) -> Score {
    let stage = Stage::open(program, include_str!("hostile/h2spec.yaml")).await.unwrap();
    // A case about small windows is skipped for bodies of fewer than five bytes.
    let answers = (0..REQUESTS).map(|_| Answer::status(200, "0123456789"));
    stage.http1("a").unwrap().script(answers);
    let port = stage.listener("http").unwrap().port().to_string();
    let mut command = Command::new(tool("h2spec").unwrap());
    command.args(["-p", &port, "-o", CASE_LIMIT]).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("h2spec", SUITE_LIMIT, command.output()).await.unwrap().unwrap();
    score(&String::from_utf8_lossy(&output.stdout))
}

/// Reads the report: `N tests, N passed, …` at its end, the failed cases below `Failures:`, each
/// indented below the titles of its sections.
fn score(report: &str) -> Score {
    let summary = report.lines().rev().find(|line| line.contains(" tests, ")).unwrap_or_default();
    let count = |what: &str| -> Option<usize> {
        let part = summary.split(", ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    assert_eq!(count(" tests"), Some(CASES), "not the whole suite was run:\n{report}");
    let failures = report.split_once("Failures:").map_or("", |(_, failures)| failures);
    let mut titles: Vec<(usize, &str)> = Vec::new();
    let mut failed = BTreeSet::new();
    for line in failures.lines().filter(|line| !line.trim().is_empty()) {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        titles.retain(|(outer, _)| *outer < indent);
        match text.strip_prefix("× ") {
            Some(case) => {
                let section = titles.last().map_or("", |(_, title)| title);
                failed.insert(format!("{section} / {case}"));
            }
            None => titles.push((indent, text)),
        }
    }
    let passed = count(" passed").unwrap_or_default();
    assert_eq!(passed + failed.len(), CASES, "the report was misread:\n{report}");
    Score { passed, failed }
}

#[tokio::test]
async fn passes_no_fewer_cases_than_envoy_and_only_known_ones_fail() {
    let (envoy, ours) = tokio::join!(run(Program::Envoy), run(Program::Tulle));
    println!("h2spec: tulle-proxy {} of {CASES}, Envoy {}", ours.passed, envoy.passed);
    assert!(ours.passed >= envoy.passed, "ours: {ours:#?}\nEnvoy: {envoy:#?}");
    let known: BTreeSet<String> = NOT_PASSED.iter().map(|(case, _)| (*case).to_owned()).collect();
    assert_eq!(ours.failed, known);
}

#[test]
fn failed_cases_are_read_with_their_section() {
    let report = "Failures: \n\nHypertext\n  3. Starting\n    3.5. Preface\n      × 2: Sends it\n\
        \x20       -> The endpoint MUST.\n           Expected: a\n\n  6. Frames\n    6.8. GOAWAY\n\
        \x20     × 1: Sends one\n        -> The endpoint\n\nFinished in 1 seconds\n\
        145 tests, 143 passed, 0 skipped, 2 failed\n";
    let expected = ["3.5. Preface / 2: Sends it", "6.8. GOAWAY / 1: Sends one"];
    let expected: BTreeSet<String> = expected.map(str::to_owned).into();
    assert_eq!(score(report).failed, expected);
}
