//! Field paths: how a place inside an object is written (`spec.http[0].match[1].headers["a.b"]`)
//! and found again in its tree.

use crate::tree::{Node, Position, Value};

/// Appends a map key to a path.
pub fn join(path: &str, key: &str) -> String {
    let simple = !key.is_empty()
        && key.chars().all(|char| char.is_ascii_alphanumeric() || char == '_' || char == '-');
    match (simple, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key:?}]"),
    }
}

/// Where the deepest part of `path` that exists stands; a field is where its key stands.
pub fn locate(root: &Node, path: &str) -> Position {
    let mut node = root;
    let mut at = root.at;
    let mut rest = path;
    while let Some((step, after)) = next_step(rest) {
        let found = match (&node.value, step) {
            (Value::Map(_), Step::Key(key)) => {
                node.entry(&key).map(|entry| (entry.key_at, &entry.value))
            }
            (Value::List(items), Step::Index(index)) => {
                items.get(index).map(|item| (item.at, item))
            }
            _ => None,
        };
        let Some((step_at, step_node)) = found else { return at };
        (at, node, rest) = (step_at, step_node, after);
    }
    at
}

enum Step {
    Key(String),
    Index(usize),
}

fn next_step(path: &str) -> Option<(Step, &str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if let Some(quoted) = path.strip_prefix("[\"") {
        let (key, after) = quoted.split_once("\"]")?;
        return Some((Step::Key(key.to_owned()), after));
    }
    if let Some(index) = path.strip_prefix('[') {
        let (index, after) = index.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), after));
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    (end > 0).then(|| (Step::Key(path[..end].to_owned()), &path[end..]))
}
