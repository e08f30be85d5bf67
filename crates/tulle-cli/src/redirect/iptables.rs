//! The rules for `iptables-restore` and `ip6tables-restore`: chains of our own, jumped to from the
//! built-in ones. Each table of each family is replaced in one step; if one step fails, what was
//! put in force is taken back.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use ipnet::IpNet;

use super::rules::{Chain, Family, Hook, Match, Rule, Verdict};
use super::scope::PortRange;
use super::tool::{self, Step};

/// Begins the name of each of our chains.
const PREFIX: &str = "TULLE_";

/// Present in every namespace whose kernel speaks IPv6.
const IPV6_INTERFACES: &str = "/proc/net/if_inet6";

const TABLES: [Table; 2] = [
    Table { name: "nat", hooks: [Hook::TranslateOutput, Hook::TranslateInput] },
    Table { name: "filter", hooks: [Hook::GuardOutput, Hook::GuardInput] },
];

#[derive(Debug, Clone, Copy)]
struct Table {
    name: &'static str,
    hooks: [Hook; 2],
}

/// What of ours is in a table already.
#[derive(Debug, Default, PartialEq, Eq)]
struct Present {
    /// Rules in built-in chains that jump to ours, as `iptables-save` writes them, without `-A`.
    jumps: Vec<String>,
    /// Our chains.
    chains: Vec<String>,
}

impl Present {
    fn is_nothing(&self) -> bool {
        self.jumps.is_empty() && self.chains.is_empty()
    }

    fn parse(saved: &str) -> Present {
        let mut present = Present::default();
        for line in saved.lines() {
            if let Some(chain) = line.strip_prefix(':').filter(|chain| chain.starts_with(PREFIX)) {
                present.chains.extend(chain.split_whitespace().next().map(str::to_owned));
            } else if let Some(rule) = line.strip_prefix("-A ")
                && !rule.starts_with(PREFIX)
                && rule.contains(&format!("-j {PREFIX}"))
            {
                present.jumps.push(rule.to_owned());
            }
        }
        present
    }
}

/// Puts the rules in force.
///
/// # Errors
/// A tool is missing or the kernel refuses; nothing of ours is in force then.
pub fn apply(chains: &[Chain]) -> Result<()> {
    for family in families() {
        for table in TABLES {
            if let Err(error) = apply_to(family, table, chains) {
                // The first error says more than what follows from it.
                let _ = remove_if_present();
                return Err(error);
            }
        }
    }
    Ok(())
}

fn apply_to(family: Family, table: Table, chains: &[Chain]) -> Result<()> {
    let present = present(family, table)?;
    let step = match chains.iter().any(|chain| table.hooks.contains(&chain.hook)) {
        true => put_step(family, table, &present, chains),
        false if present.is_nothing() => return Ok(()),
        false => remove_step(family, table, &present),
    };
    tool::run(&step).map(drop)
}

/// Whether any of our chains exists.
///
/// # Errors
/// The kernel does not tell.
pub fn is_present() -> Result<bool> {
    for family in families() {
        for table in TABLES {
            if tool::is_installed(program(family, "save")) && !present(family, table)?.is_nothing()
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What [`apply`] runs where nothing is in force.
pub fn steps_on_clean_namespace(chains: &[Chain]) -> Vec<Step> {
    let nothing = Present::default();
    let tables = [Family::V4, Family::V6].into_iter().flat_map(|f| TABLES.map(|table| (f, table)));
    tables.map(|(family, table)| put_step(family, table, &nothing, chains)).collect()
}

/// Removes our chains; false if there are none.
///
/// # Errors
/// The kernel refuses.
pub fn remove_if_present() -> Result<bool> {
    let mut removed = false;
    for family in families() {
        if !tool::is_installed(program(family, "save")) {
            continue;
        }
        // Guards first: what is no longer translated must not be refused.
        for table in TABLES.into_iter().rev() {
            let present = present(family, table)?;
            if !present.is_nothing() {
                tool::run(&remove_step(family, table, &present))?;
                removed = true;
            }
        }
    }
    Ok(removed)
}

fn families() -> impl Iterator<Item = Family> {
    let v6 = Path::new(IPV6_INTERFACES).exists().then_some(Family::V6);
    std::iter::once(Family::V4).chain(v6)
}

fn program(family: Family, verb: &str) -> &'static str {
    match (family, verb) {
        (Family::V4, "save") => "iptables-save",
        (Family::V4, _) => "iptables-restore",
        (Family::V6, "save") => "ip6tables-save",
        (Family::V6, _) => "ip6tables-restore",
    }
}

fn present(family: Family, table: Table) -> Result<Present> {
    let step = Step::new([program(family, "save"), "-t", table.name], String::new());
    tool::run(&step).map(|saved| Present::parse(&saved))
}

fn restore(family: Family, script: String) -> Step {
    Step::new([program(family, "restore"), "--noflush", "--wait", "5"], script)
}

fn put_step(family: Family, table: Table, present: &Present, chains: &[Chain]) -> Step {
    let mut out = format!("*{}\n", table.name);
    for hook in table.hooks {
        push(&mut out, format_args!(":{} - [0:0]\n", name(hook)));
    }
    for jump in &present.jumps {
        push(&mut out, format_args!("-D {jump}\n"));
    }
    for Chain { hook, rules } in chains.iter().filter(|chain| table.hooks.contains(&chain.hook)) {
        for rule in rules.iter().filter(|rule| rule.concerns(family)) {
            push(&mut out, format_args!("-A {} {}\n", name(*hook), specification(rule)));
        }
    }
    for hook in table.hooks {
        push(&mut out, format_args!("-I {} 1 -p tcp --syn -j {}\n", built_in(hook), name(hook)));
    }
    out.push_str("COMMIT\n");
    restore(family, out)
}

fn remove_step(family: Family, table: Table, present: &Present) -> Step {
    let mut out = format!("*{}\n", table.name);
    for jump in &present.jumps {
        push(&mut out, format_args!("-D {jump}\n"));
    }
    for chain in &present.chains {
        push(&mut out, format_args!("-F {chain}\n-X {chain}\n"));
    }
    out.push_str("COMMIT\n");
    restore(family, out)
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

fn name(hook: Hook) -> String {
    format!("{PREFIX}{}", built_in(hook))
}

fn built_in(hook: Hook) -> &'static str {
    match hook {
        Hook::TranslateOutput | Hook::GuardOutput => "OUTPUT",
        Hook::TranslateInput => "PREROUTING",
        Hook::GuardInput => "INPUT",
    }
}

fn specification(rule: &Rule) -> String {
    let mut parts = vec!["-p tcp".to_owned()];
    parts.extend(rule.matches.iter().map(condition));
    parts.push(match rule.verdict {
        Verdict::Leave => "-j RETURN".to_owned(),
        Verdict::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Verdict::Refuse => "-j REJECT --reject-with tcp-reset".to_owned(),
    });
    parts.join(" ")
}

fn condition(wanted: &Match) -> String {
    match wanted {
        Match::ToSelf => "-m addrtype --dst-type LOCAL".to_owned(),
        Match::ToOthers => "-m addrtype ! --dst-type LOCAL".to_owned(),
        Match::FromSelf => "-i lo".to_owned(),
        Match::User(uid) => format!("-m owner --uid-owner {uid}"),
        Match::Group(gid) => format!("-m owner --gid-owner {gid}"),
        Match::Mark(mark) => format!("-m mark --mark {:#x}/{:#x}", mark.value, mark.mask),
        Match::Ports(PortRange { first, last }) => format!("--dport {first}:{last}"),
        Match::Destination(IpNet::V4(network)) => format!("-d {network}"),
        Match::Destination(IpNet::V6(network)) => format!("-d {network}"),
        Match::Source(address) => format!("-s {address}"),
        Match::Untranslated => "-m conntrack ! --ctstate DNAT".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_told_from_what_is_not() {
        let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n:TULLE_OUTPUT - [1:2]\n:OTHER - [0:0]\n\
            -A OUTPUT -p tcp -m tcp --syn -j TULLE_OUTPUT\n-A OUTPUT -j OTHER\n\
            -A TULLE_OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n";
        let present = Present::parse(saved);
        assert_eq!(present.chains, ["TULLE_OUTPUT"]);
        assert_eq!(present.jumps, ["OUTPUT -p tcp -m tcp --syn -j TULLE_OUTPUT"]);
        assert_eq!(Present::parse("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"), Present::default());
    }
}
