//! The list of mutations (`oracle/mutations.txt`): features of `tulle-proxy` that can be switched
//! off, and the rows that must notice.
//!
//! All of them are built into one program, each behind a number that the environment chooses: a
//! build costs minutes, a switch nothing.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{Group, rows, template};

/// Which mutation is at work in a program that has them.
pub const SWITCH: &str = "TULLE_MUTANT";
/// What stands around the part of a text that is replaced.
const MARKS: (char, char) = ('«', '»');

/// What asks for a mutation by its number; `extern crate self` makes one path good everywhere.
const ASKS: &str = "
extern crate self as tulle_model;
pub fn mutant(number: u32) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    let read = || std::env::var(\"TULLE_MUTANT\").ok()?.parse().ok();
    *CHOSEN.get_or_init(read) == Some(number)
}
";

/// One feature that is switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// Its place in the list, from 1.
    pub number: u32,
    /// Short and stable.
    pub name: String,
    /// What is switched off.
    pub what: String,
    /// The rows that must notice.
    pub rows: Vec<String>,
    /// The source, from the root of the repository.
    pub file: String,
    /// What stands there, with its marks.
    text: String,
    /// What is done in its place.
    replacement: String,
}

/// The mutations of this repository.
///
/// # Errors
/// When the list cannot be read.
pub fn list() -> Result<Vec<Mutation>> {
    let path = super::directory().join("mutations.txt");
    parse(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)
}

/// The rows that no mutation names and that own no line of their configuration: nobody has seen
/// them fail.
///
/// # Errors
/// When a configuration cannot be read.
pub fn unguarded(mutations: &[Mutation]) -> Result<Vec<&'static str>> {
    let named: BTreeSet<&str> =
        mutations.iter().flat_map(|one| &one.rows).map(String::as_str).collect();
    let mut unguarded = Vec::new();
    for group in Group::ALL {
        let owners = template::owners(&group.config()?);
        let names = rows::of(group).into_iter().map(|row| row.name);
        unguarded.extend(names.filter(|name| !named.contains(name) && !owners.contains(*name)));
    }
    Ok(unguarded)
}

/// Reads a list; its own comment says how it is written.
///
/// # Errors
/// The line that is none of it.
pub fn parse(text: &str) -> Result<Vec<Mutation>> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let blocks = lines.split("\n[").skip(1);
    blocks.zip(1..).map(|(block, number)| one(block, number)).collect()
}

fn one(block: &str, number: u32) -> Result<Mutation> {
    let (name, rest) = block.split_once("] ").context("a block begins with [name]")?;
    let (what, rest) = rest.split_once('\n').context("a block says what is switched off")?;
    let mut mutation = Mutation {
        number,
        name: name.to_owned(),
        what: what.to_owned(),
        rows: Vec::new(),
        file: String::new(),
        text: String::new(),
        replacement: String::new(),
    };
    let mut texts = Vec::new();
    for line in rest.lines().filter(|line| !line.is_empty()) {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("rows:", rows) => mutation.rows = rows.split(' ').map(str::to_owned).collect(),
            ("file:", file) => file.clone_into(&mut mutation.file),
            ("-", text) => texts.push(text),
            ("+", text) => text.clone_into(&mut mutation.replacement),
            _ => bail!("{name}: {line:?} is nothing that a block has"),
        }
    }
    mutation.text = texts.join("\n");
    ensure!(
        !mutation.rows.is_empty() && !texts.is_empty(),
        "{name}: a block names rows and a text"
    );
    Ok(mutation)
}

impl Mutation {
    /// Where in `source` the part is that is replaced.
    ///
    /// # Errors
    /// When the text is not there, or more than once.
    pub fn place(&self, source: &str) -> Result<Range<usize>> {
        let (flat, origins) = flat(source);
        let wanted = self.text.replace([MARKS.0, MARKS.1], "");
        let mut found = flat.match_indices(&wanted).map(|(at, _)| at);
        let at = found.next().with_context(|| format!("{}: not in {}", self.name, self.file))?;
        ensure!(found.next().is_none(), "{}: more than once in {}", self.name, self.file);
        let (before, marked) = match self.text.split_once(MARKS.0) {
            Some((before, rest)) => (before, rest.split_once(MARKS.1).map_or(rest, |(in_, _)| in_)),
            None => ("", &*self.text),
        };
        let start = at + before.len();
        Ok(origins[start]..origins[start + marked.len() - 1] + 1)
    }

    /// The part with its replacement behind a switch.
    fn switched(&self, part: &str) -> String {
        let Self { number, replacement, .. } = self;
        let both =
            format!("if tulle_model::mutant({number}) {{ {replacement} }} else {{ {part} }}");
        if part.ends_with(';') { both } else { format!("({both})") }
    }
}

/// The source without indentation, and for each of its bytes where it came from.
fn flat(source: &str) -> (String, Vec<usize>) {
    let (mut flat, mut origins) = (String::new(), Vec::new());
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let bare = line.trim_start_matches(' ').trim_end();
        let first = start + (line.len() - line.trim_start_matches(' ').len());
        flat.push_str(bare);
        origins.extend(first..first + bare.len());
        if line.ends_with('\n') {
            flat.push('\n');
            origins.push(start + line.len() - 1);
        }
        start += line.len();
    }
    (flat, origins)
}

/// `source` with all its mutations behind their switches.
///
/// # Errors
/// When a text is not there, or two of them overlap.
pub fn applied(source: &str, mutations: &[&Mutation]) -> Result<String> {
    let mut places = Vec::new();
    for mutation in mutations {
        places.push((mutation.place(source)?, *mutation));
    }
    places.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    let mut text = source.to_owned();
    let mut end = source.len();
    for (place, mutation) in places {
        ensure!(place.end <= end, "{}: overlaps with another mutation", mutation.name);
        text.replace_range(place.clone(), &mutation.switched(&source[place.clone()]));
        end = place.start;
    }
    Ok(text)
}

/// Builds `tulle-proxy` with every mutation in a copy of the sources; where the program is.
///
/// # Errors
/// When the copy cannot be written or does not compile.
pub fn build(mutations: &[Mutation]) -> Result<PathBuf> {
    let root = root();
    #[expect(clippy::disallowed_methods, reason = "where cargo builds")]
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| root.join("target"));
    let copy = target.join("mutants");
    for name in ["Cargo.toml", "Cargo.lock"] {
        written(&copy.join(name), &fs::read(root.join(name))?)?;
    }
    copied(&root, Path::new("crates"), &copy, mutations)?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&copy).args(["build", "--offline", "--locked", "-p", "tulle-proxy"]);
    cargo.args(["--bin", PROGRAM, "--target-dir"]).arg(&target);
    cargo.env("CARGO_INCREMENTAL", "0");
    ensure!(cargo.status()?.success(), "the mutated proxy does not compile");
    Ok(target.join("debug").join(PROGRAM))
}

/// The program with the mutations, beside the one without.
const PROGRAM: &str = "tulle-proxy-mutants";

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn copied(root: &Path, inside: &Path, to: &Path, mutations: &[Mutation]) -> Result<()> {
    for entry in fs::read_dir(root.join(inside))? {
        let entry = entry?;
        let path = inside.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            if !["fuzz", "target"].iter().any(|left_out| path.ends_with(left_out)) {
                copied(root, &path, to, mutations)?;
            }
            continue;
        }
        let bytes = fs::read(entry.path())?;
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => changed(&path, text, mutations)?.into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        written(&to.join(&path), &bytes)?;
    }
    Ok(())
}

fn changed(path: &Path, text: String, mutations: &[Mutation]) -> Result<String> {
    if path.ends_with("Cargo.toml") {
        // What a switch leaves unused is nobody's concern.
        let text = text.replace("[lints]\nworkspace = true\n", "");
        return Ok(text.replace(
            "[[bin]]\nname = \"tulle-proxy\"",
            &format!("[[bin]]\nname = \"{PROGRAM}\""),
        ));
    }
    let own: Vec<&Mutation> = mutations.iter().filter(|one| Path::new(&one.file) == path).collect();
    let mut text = applied(&text, &own)?;
    if path == Path::new("crates/tulle-model/src/lib.rs") {
        text.push_str(ASKS);
    }
    Ok(text)
}

/// Writes what differs only, so that nothing else is built again.
fn written(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let directory = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(directory)?;
    fs::write(path, bytes).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
