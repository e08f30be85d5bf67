//! Rules that need the whole tree: crate arrows, lint configuration, documents that must not lie.

use super::{Finding, SourceFile, Tree};

/// Which of our crates each crate may use (`docs/decisions/0002-crates-and-arrows.md`).
const ARROWS: [(&str, &[&str]); 9] = [
    ("tulle-model", &[]),
    ("tulle-config", &["tulle-model"]),
    ("tulle-xds", &["tulle-model"]),
    ("tulle-identity", &["tulle-model"]),
    ("tulle-runtime", &["tulle-model"]),
    ("tulle-proxy", &["tulle-model", "tulle-xds", "tulle-identity", "tulle-runtime"]),
    (
        "tulle-control",
        &["tulle-model", "tulle-config", "tulle-xds", "tulle-identity", "tulle-runtime"],
    ),
    ("tulle-cli", &["tulle-model", "tulle-config", "tulle-runtime"]),
    (
        "tulle-lab",
        &[
            "tulle-model",
            "tulle-config",
            "tulle-xds",
            "tulle-identity",
            "tulle-runtime",
            "tulle-proxy",
            "tulle-control",
        ],
    ),
];
/// What a pure crate must not know.
const PURE: [(&str, &[&str]); 2] = [
    ("tulle-model", &["tokio", "prost", "tonic", "kube", "rustls", "hyper", "h2", "socket2"]),
    ("tulle-config", &["tokio", "prost", "tonic", "kube", "rustls", "hyper", "h2", "socket2"]),
];
const ROOT_CLIPPY: &str = "clippy.toml";
const BUDGETS: [&str; 2] = ["too-many-arguments-threshold = 5", "too-many-lines-threshold = 70"];

/// Runs every rule over the whole tree.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        if file.path.starts_with("crates/") && file.path.ends_with("/Cargo.toml") {
            findings.extend(manifest(file));
        }
        if file.path.ends_with("/clippy.toml") {
            findings.extend(nested_clippy(tree, file));
        }
        if file.path.ends_with(".md") {
            findings.extend(make_commands(tree, file));
            findings.extend(links(tree, file));
        }
    }
    findings.extend(budgets(tree));
    findings.extend(decision_numbers(tree));
    findings
}

fn finding(file: &SourceFile, line: usize, rule: &'static str, message: String) -> Finding {
    Finding { path: file.path.clone(), line, rule, message }
}

fn manifest(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Fuzz targets are never shipped: they may use what the laboratory may.
    let is_fuzz = file.path.ends_with("/fuzz/Cargo.toml");
    let of_path = file.path.split('/').nth(1).unwrap_or_default();
    let crate_name = if is_fuzz { "tulle-lab" } else { of_path };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == crate_name) else {
        let message = format!("{crate_name} is not in the table of crates: decide its arrows");
        return vec![finding(file, 0, "crate-arrows", message)];
    };
    let pure = PURE.iter().find(|(name, _)| *name == crate_name).map_or(&[][..], |(_, ban)| *ban);
    for (line, name) in dependencies(file) {
        if name.starts_with("tulle-") && !allowed.contains(&name) {
            let message = format!("{crate_name} may not use {name}: arrows point downwards only");
            findings.push(finding(file, line, "crate-arrows", message));
        }
        if pure.contains(&name) {
            let message = format!("{crate_name} is pure: no {name} in it");
            findings.push(finding(file, line, "pure-crate", message));
        }
    }
    if !file.text.contains("[lints]\nworkspace = true") {
        let message = "add `[lints] workspace = true`: one set of lints for every crate".into();
        findings.push(finding(file, 0, "workspace-lints", message));
    }
    findings
}

/// The names below `[dependencies]`, `[dev-dependencies]` and `[build-dependencies]`.
fn dependencies(file: &SourceFile) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in file.numbered_lines() {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
        } else if inside && let Some((name, _)) = line.split_once(['=', '.']) {
            found.push((number, name.trim()));
        }
    }
    found
}

/// Clippy reads only the nearest `clippy.toml`, so a nested one repeats the root's entries.
fn nested_clippy(tree: &Tree, file: &SourceFile) -> Vec<Finding> {
    let root = tree.file(ROOT_CLIPPY).map_or("", |root| root.text.as_str());
    root.lines()
        .filter(|line| line.contains("path =") || line.contains("threshold ="))
        .filter(|line| !file.text.contains(line.trim()))
        .map(|line| {
            let message = format!("repeat the house's entry here: {}", line.trim());
            finding(file, 0, "clippy-copy", message)
        })
        .collect()
}

fn budgets(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.file(ROOT_CLIPPY) else { return Vec::new() };
    let missing = BUDGETS.iter().filter(|budget| !file.text.contains(**budget));
    missing
        .map(|budget| finding(file, 0, "clippy-budget", format!("the budget is `{budget}`")))
        .collect()
}

/// Every `make TARGET` a document tells the reader to type exists.
fn make_commands(tree: &Tree, file: &SourceFile) -> Vec<Finding> {
    let makefile = tree.file("Makefile").map_or("", |makefile| makefile.text.as_str());
    let known = |target: &str| makefile.lines().any(|l| l.starts_with(&format!("{target}:")));
    let mut findings = Vec::new();
    for (number, line) in file.numbered_lines() {
        for target in typed_targets(line) {
            if !known(target) {
                let message = format!("`make {target}` does not exist");
                findings.push(finding(file, number, "make-command", message));
            }
        }
    }
    findings
}

/// The targets of `make` in a shell line or between backquotes.
fn typed_targets(line: &str) -> Vec<&str> {
    let shell = line.trim_start().trim_start_matches("$ ");
    let mut texts: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    texts.push(shell);
    texts
        .into_iter()
        .filter_map(|text| text.strip_prefix("make "))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter(|target| target.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect()
}

/// Every relative link of a document leads to a file of the tree.
fn links(tree: &Tree, file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.numbered_lines() {
        for target in link_targets(line) {
            if !tree.contains(&resolve(&file.path, target)) {
                let message = format!("the link to {target} leads nowhere");
                findings.push(finding(file, number, "broken-link", message));
            }
        }
    }
    findings
}

fn link_targets(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.contains(' '))
        .collect()
}

/// Resolves `target` against the directory of `from`, `..` included.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Decision records are numbered once each.
fn decision_numbers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut previous = "";
    for file in tree.files() {
        let Some(name) = file.path.strip_prefix("docs/decisions/") else { continue };
        let number = name.split('-').next().unwrap_or_default();
        let well_formed = number.len() == 4 && number.chars().all(|c| c.is_ascii_digit());
        if !well_formed {
            let message = "name it NNNN-what-was-decided.md".into();
            findings.push(finding(file, 0, "decision-number", message));
        } else if number == previous {
            let message = format!("the number {number} is taken: take the next");
            findings.push(finding(file, 0, "decision-number", message));
        }
        previous = number;
    }
    findings
}
