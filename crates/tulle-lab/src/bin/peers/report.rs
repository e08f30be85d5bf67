//! Who is weaker than whom, and the table that says it.

use std::fmt::{self, Write as _};

use crate::excused;
use crate::proxy::{Proxy, Seen};

/// How much of a request the table shows, in characters.
const SHOWN: usize = 90;
/// As many peers are a majority of three.
const MAJORITY: usize = 2;

/// One request in every proxy, ours first.
#[derive(Debug)]
pub struct Compared {
    pub item: &'static str,
    pub sent: Vec<u8>,
    pub seen: Vec<Seen>,
}

/// Where ours is weaker than most.
#[derive(Debug)]
pub struct Weakness<'c> {
    pub of: &'c Compared,
    pub why: &'static str,
}

impl Compared {
    /// Whether ours passes on what most peers refuse, or reads it otherwise than most.
    pub fn weakness(&self) -> Option<Weakness<'_>> {
        let (ours, peers) = self.seen.split_first()?;
        if ours.passed.is_empty() {
            return None;
        }
        let refusing = peers.iter().filter(|peer| peer.passed.is_empty()).count();
        let otherwise = |peer: &&Seen| !peer.passed.is_empty() && peer.passed != ours.passed;
        let why = match () {
            () if refusing >= MAJORITY => "refused by most",
            () if peers.iter().filter(otherwise).count() >= MAJORITY => "framed otherwise by most",
            () => return None,
        };
        Some(Weakness { of: self, why })
    }

    fn shown(&self) -> String {
        let text = self.sent.escape_ascii().to_string();
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown.replace('|', "\\|").replace('`', "'")
    }
}

impl Weakness<'_> {
    pub fn excuse(&self) -> Option<&'static str> {
        excused::of(self.of)
    }
}

impl fmt::Display for Weakness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} `{}`", self.why, self.of.item, self.of.shown())?;
        self.of.seen.iter().try_for_each(|seen| write!(f, "; {} {:?}", cell(seen), seen.passed))
    }
}

/// What became of it, in a word or two.
fn cell(seen: &Seen) -> String {
    let passed = match seen.passed.len() {
        0 => String::new(),
        1 => ", passed".to_owned(),
        several => format!(", passed as {several}"),
    };
    match seen.status {
        0 => format!("{}{passed}", seen.fate),
        status => format!("{status} {}{passed}", seen.fate),
    }
}

/// The whole document.
pub fn table(proxies: &[Proxy], all: &[Compared], weak: &[Weakness<'_>]) -> String {
    let mut text = String::from(
        "# Hostile requests, and what other proxies make of them\n\n\
         Written by `make peers`: the HTTP/1 requests of `crates/tulle-lab/tests/hostile`, the\n\
         same bytes to each proxy with a backend behind it. *passed*: the backend got a whole\n\
         request. *closed*, *kept*: the connection; *waits*: neither answered nor closed within\n\
         four seconds. A request that ours passes on and two of the three others refuse is a\n\
         fault, and so is one that two of them frame otherwise, unless it stands under\n\
         [why](#why).\n\n",
    );
    let versions = proxies
        .iter()
        .filter_map(|proxy| Some(format!("{} {}", proxy.peer.name(), proxy.peer.version().ok()?)));
    let _ = writeln!(text, "Versions: {}.\n", versions.collect::<Vec<_>>().join(", "));
    let refused = |index: usize| all.iter().filter(|one| one.seen[index].passed.is_empty()).count();
    let _ = writeln!(text, "| of {} requests | refused |\n|---|---|", all.len());
    for (index, proxy) in proxies.iter().enumerate() {
        let _ = writeln!(text, "| {} | {} |", proxy.peer.name(), refused(index));
    }
    text.push_str("\n## Why\n\nWhere ours is weaker than most:\n\n| request | why |\n|---|---|\n");
    for weakness in weak {
        let excuse = weakness.excuse().unwrap_or("**not decided**");
        let _ = writeln!(text, "| {}: `{}` | {excuse} |", weakness.of.item, weakness.of.shown());
    }
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.peer.name()).collect();
    let _ = writeln!(text, "\n## Requests\n\n| what | sent | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(names.len()));
    for one in all {
        let cells: Vec<String> = one.seen.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | `{}` | {} |", one.item, one.shown(), cells.join(" | "));
    }
    text
}
