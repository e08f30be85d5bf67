//! The house rules, made executable: budgets, names and arrows that `make check` enforces.
//!
//! Each rule is a function from a file (or the whole tree) to findings; `tests/tidy.rs` runs all
//! of them over this repository, `tidy/tests.rs` proves each with a planted violation.

use std::fmt;
use std::io;
use std::path::Path;

mod functions;
mod mask;
mod rules;
mod tree;
mod tree_rules;

pub use tree::{SourceFile, Tree};

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path relative to the root of the repository.
    pub path: String,
    /// Line, counted from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The rule's stable name, e.g. `file-length`.
    pub rule: &'static str,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.rule, self.message)
    }
}

/// Runs every rule over the tree at `root`; an empty answer means the house is tidy.
///
/// # Errors
/// When the tree cannot be read.
pub fn check(root: &Path) -> io::Result<Vec<Finding>> {
    Ok(check_tree(&Tree::read(root)?))
}

/// Runs every rule over a tree that is already in memory.
#[must_use]
pub fn check_tree(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tree.files().flat_map(rules::check_file).collect();
    findings.extend(tree_rules::check(tree));
    findings.sort();
    findings
}

#[cfg(test)]
mod tests;
