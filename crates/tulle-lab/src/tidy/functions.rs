//! Finds the functions of a masked Rust source: where they are, how long, how many parameters.

use std::ops::{Range, RangeInclusive};

/// What the budgets need to know about one function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub name: String,
    /// Line of the `fn`, counted from 1.
    pub line: usize,
    /// Parameters, `self` included.
    pub parameters: usize,
    /// Whether somebody else's trait dictates the parameters.
    pub dictated: bool,
    /// Lines of the body that are neither blank nor only comment; 0 without a body.
    pub body_lines: usize,
}

/// All functions of `masked`, nested ones included.
pub(super) fn find(masked: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let trait_impls = trait_impls(masked);
    let mut from = 0;
    while let Some(offset) = masked[from..].find("fn ") {
        let at = from + offset;
        from = at + 3;
        let preceded_by_word =
            masked[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '\'');
        if !preceded_by_word {
            let dictated = trait_impls.iter().any(|range| range.contains(&at));
            functions.extend(parse(masked, at).map(|found| Function { dictated, ..found }));
        }
    }
    functions
}

/// Where `impl Trait for Type { … }` blocks are.
fn trait_impls(masked: &str) -> Vec<Range<usize>> {
    let starts = masked.match_indices("impl").map(|(at, _)| at);
    let starts = starts.filter(|at| masked[..*at].ends_with(['\n', ' ']) || *at == 0);
    starts
        .filter_map(|at| {
            let open = at + masked[at..].find(['{', ';', ')'])?;
            let header = masked[at..open].contains(" for ") && masked[open..].starts_with('{');
            header.then(|| open..open + braces_end(&masked[open..]))
        })
        .collect()
}

fn parse(masked: &str, at: usize) -> Option<Function> {
    let rest = &masked[at + 3..];
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return None;
    }
    let after_name = &rest[name.len()..];
    let open = if after_name.starts_with('<') { skip_balanced(after_name)? } else { 0 };
    let list = after_name[open..].trim_start();
    if !list.starts_with('(') {
        return None;
    }
    let end = skip_balanced(list)?;
    Some(Function {
        name,
        line: masked[..at].matches('\n').count() + 1,
        parameters: count_parameters(&list[1..end - 1]),
        dictated: false,
        body_lines: count_body_lines(&list[end..]),
    })
}

/// The length of the bracketed text at the beginning of `text`, brackets included.
fn skip_balanced(text: &str) -> Option<usize> {
    let mut depth = 0i32;
    let mut previous = ' ';
    for (index, c) in text.char_indices() {
        depth += nesting(previous, c);
        previous = c;
        if depth == 0 {
            return Some(index + 1);
        }
    }
    None
}

/// How a character changes the depth of brackets; the `>` of `->` and `=>` is none.
fn nesting(previous: char, c: char) -> i32 {
    match c {
        '(' | '[' | '{' | '<' => 1,
        '>' if previous == '-' || previous == '=' => 0,
        ')' | ']' | '}' | '>' => -1,
        _ => 0,
    }
}

fn count_parameters(list: &str) -> usize {
    let (mut depth, mut previous, mut count, mut pending) = (0i32, ' ', 0, false);
    for c in list.chars() {
        depth += nesting(previous, c);
        previous = c;
        if c == ',' && depth == 0 {
            count += usize::from(pending);
            pending = false;
        } else if !c.is_whitespace() {
            pending = true;
        }
    }
    count + usize::from(pending)
}

fn count_body_lines(after_parameters: &str) -> usize {
    let Some(open) = after_parameters.find(['{', ';']) else { return 0 };
    if after_parameters[open..].starts_with(';') {
        return 0;
    }
    let body = &after_parameters[open..];
    let end = braces_end(body);
    body[1..end].lines().filter(|line| !line.trim().is_empty()).count()
}

/// The offset of the brace that closes the one at the beginning.
fn braces_end(body: &str) -> usize {
    let mut depth = 0i32;
    for (index, c) in body.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    body.len()
}

/// The lines (counted from 1) of every inline `#[cfg(test)] mod … { … }`.
pub(super) fn inline_test_lines(masked: &str) -> Vec<RangeInclusive<usize>> {
    let line_of = |offset: usize| masked[..offset].matches('\n').count() + 1;
    let mut ranges = Vec::new();
    for (at, attribute) in masked.match_indices("#[cfg(test)]") {
        let after = &masked[at + attribute.len()..];
        let item = after.trim_start();
        if !item.starts_with("mod ") {
            continue;
        }
        let Some(open) = item.find(['{', ';']) else { continue };
        let start = at + attribute.len() + (after.len() - item.len());
        if item[open..].starts_with('{') {
            ranges.push(line_of(at)..=line_of(start + open + braces_end(&item[open..])));
        }
    }
    ranges
}
