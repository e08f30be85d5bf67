//! The rules for `nft`: one table of our own, replaced in one transaction.

use std::fmt::Write;
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use super::rules::{Chain, Hook, Match, Rule, Verdict};
use super::scope::PortRange;
use super::tool::{self, Step};

const TABLE: &str = "inet tulle";

/// Whether the tool and the kernel would accept the rules; changes nothing.
///
/// # Errors
/// They would not, and why.
pub fn check(chains: &[Chain]) -> Result<()> {
    tool::run(&Step::new(["nft", "--check", "--file", "-"], script(chains))).map(drop)
}

/// Puts the rules in force.
///
/// # Errors
/// The tool is missing or the kernel refuses; nothing has changed then.
pub fn apply(chains: &[Chain]) -> Result<()> {
    tool::run(&step(chains)).map(drop)
}

/// What [`apply`] runs.
pub fn step(chains: &[Chain]) -> Step {
    Step::new(["nft", "--file", "-"], script(chains))
}

/// Whether the table exists.
///
/// # Errors
/// The kernel does not tell.
pub fn is_present() -> Result<bool> {
    if !tool::is_installed("nft") {
        return Ok(false);
    }
    let tables = tool::run(&Step::new(["nft", "list", "tables"], String::new()))?;
    Ok(tables.lines().any(|line| line.trim() == format!("table {TABLE}")))
}

/// Removes the table; false if there is none.
///
/// # Errors
/// The kernel refuses.
pub fn remove_if_present() -> Result<bool> {
    if !is_present()? {
        return Ok(false);
    }
    tool::run(&Step::new(["nft", "--file", "-"], format!("delete table {TABLE}\n")))?;
    Ok(true)
}

fn script(chains: &[Chain]) -> String {
    let mut out = format!("add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    // A chain is known before it is jumped to.
    for chain in chains {
        push(&mut out, format_args!("\tchain {} {{\n", begins(chain.hook)));
        for rule in &chain.rules {
            push(&mut out, format_args!("\t\t{}\n", statement(rule)));
        }
        out.push_str("\t}\n\n");
    }
    for chain in chains {
        let Chain { hook, .. } = chain;
        push(&mut out, format_args!("\tchain {} {{\n\t\ttype {};\n", name(*hook), base(*hook)));
        push(
            &mut out,
            format_args!(
                "\t\ttcp flags & (fin | syn | rst | ack) == syn jump {}\n\t}}\n",
                begins(*hook)
            ),
        );
    }
    out.push_str("}\n");
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

fn name(hook: Hook) -> &'static str {
    match hook {
        Hook::TranslateOutput => "translate_output",
        Hook::TranslateInput => "translate_input",
        Hook::GuardOutput => "guard_output",
        Hook::GuardInput => "guard_input",
    }
}

fn begins(hook: Hook) -> String {
    format!("{}_begins", name(hook))
}

fn base(hook: Hook) -> &'static str {
    match hook {
        Hook::TranslateOutput => "nat hook output priority -100; policy accept",
        Hook::TranslateInput => "nat hook prerouting priority -100; policy accept",
        Hook::GuardOutput => "filter hook output priority 0; policy accept",
        Hook::GuardInput => "filter hook input priority 0; policy accept",
    }
}

fn statement(rule: &Rule) -> String {
    let mut parts: Vec<String> = rule.matches.iter().map(condition).collect();
    parts.push(match rule.verdict {
        Verdict::Leave => "return".to_owned(),
        Verdict::Redirect(port) => format!("meta l4proto tcp redirect to :{port}"),
        Verdict::Refuse => "meta l4proto tcp reject with tcp reset".to_owned(),
    });
    parts.join(" ")
}

fn condition(wanted: &Match) -> String {
    match wanted {
        Match::ToSelf => "fib daddr type local".to_owned(),
        Match::ToOthers => "fib daddr type != local".to_owned(),
        Match::FromSelf => "iifname \"lo\"".to_owned(),
        Match::User(uid) => format!("meta skuid {uid}"),
        Match::Group(gid) => format!("meta skgid {gid}"),
        Match::Mark(mark) => format!("meta mark & {:#x} == {:#x}", mark.mask, mark.value),
        Match::Ports(PortRange { first, last }) if first == last => format!("tcp dport {first}"),
        Match::Ports(PortRange { first, last }) => format!("tcp dport {first}-{last}"),
        Match::Destination(IpNet::V4(network)) => format!("ip daddr {network}"),
        Match::Destination(IpNet::V6(network)) => format!("ip6 daddr {network}"),
        Match::Source(IpAddr::V4(address)) => format!("ip saddr {address}"),
        Match::Source(IpAddr::V6(address)) => format!("ip6 saddr {address}"),
        Match::Untranslated => "ct status & dnat == 0".to_owned(),
    }
}
