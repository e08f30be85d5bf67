//! Configurations with placeholders and with lines a row calls its own.
//!
//! `{{KIND:NAME}}` stands for a port: `port` is a listener's, `http1`, `http2` and `tcp` are
//! upstreams', `dead` is one where nobody listens, `{{admin}}` the admin's. A line that ends in
//! `#~ ROW` is what makes the row special: without the line the row must come out differently;
//! `#~ ROW: TEXT` puts `TEXT` in its place instead (an item of a list stays one).

use std::collections::{BTreeMap, BTreeSet};

const OWN: &str = " #~ ";

/// The placeholders of a configuration, each once: its kind and its name.
#[must_use]
pub fn placeholders(config: &str) -> BTreeSet<(String, String)> {
    let inside = config.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    inside
        .map(|(placeholder, _)| {
            let (kind, name) = placeholder.split_once(':').unwrap_or((placeholder, ""));
            (kind.to_owned(), name.to_owned())
        })
        .collect()
}

/// Puts ports in the places of placeholders.
#[must_use]
pub fn fill(config: &str, ports: &BTreeMap<(String, String), u16>) -> String {
    ports.iter().fold(config.to_owned(), |text, ((kind, name), port)| {
        text.replace(&placeholder(kind, name), &port.to_string())
    })
}

/// How a placeholder is written.
#[must_use]
pub fn placeholder(kind: &str, name: &str) -> String {
    if name.is_empty() { format!("{{{{{kind}}}}}") } else { format!("{{{{{kind}:{name}}}}}") }
}

/// The names of the rows that own lines.
#[must_use]
pub fn owners(config: &str) -> BTreeSet<String> {
    config.lines().filter_map(owned).flat_map(|(_, names, _)| names).collect()
}

/// Drops or replaces every owned line.
#[must_use]
pub fn mutate(config: &str) -> String {
    let lines = config.lines().filter_map(|line| match owned(line) {
        None => Some(line.to_owned()),
        Some((line, _, replacement)) => replacement.map(|text| {
            let indent = line.len() - line.trim_start().len();
            let item = if line.trim_start().starts_with("- ") { "- " } else { "" };
            format!("{:indent$}{item}{text}", "")
        }),
    });
    lines.map(|line| line + "\n").collect()
}

/// A line, its owners and what replaces it.
fn owned(line: &str) -> Option<(&str, Vec<String>, Option<&str>)> {
    let (line, mark) = line.split_once(OWN)?;
    let (names, replacement) = match mark.split_once(": ") {
        Some((names, replacement)) => (names, Some(replacement)),
        None => (mark, None),
    };
    Some((line, names.split_whitespace().map(str::to_owned).collect(), replacement))
}

#[cfg(test)]
mod tests {
    use super::{fill, mutate, owners, placeholders};

    const CONFIG: &str =
        "a: {{port:http}}\nb: 1 #~ row-b\n  - c: 2 #~ row-c row-d: c: 3\nd: {{admin}}\n";

    #[test]
    fn placeholders_are_found_and_filled() {
        let found = placeholders(CONFIG);
        assert_eq!(found.len(), 2);
        let ports = found.into_iter().zip([1, 2]).collect();
        let filled = fill(CONFIG, &ports);
        assert!(filled.starts_with("a: 2\n") && filled.ends_with("d: 1\n"), "{filled}");
    }

    #[test]
    fn owned_lines_are_dropped_or_replaced() {
        assert_eq!(owners(CONFIG).into_iter().collect::<Vec<_>>(), ["row-b", "row-c", "row-d"]);
        assert_eq!(mutate(CONFIG), "a: {{port:http}}\n  - c: 3\nd: {{admin}}\n");
    }
}
