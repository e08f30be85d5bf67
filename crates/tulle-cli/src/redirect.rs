//! `tulle redirect`: TCP of the current network namespace goes through its proxy.
//!
//! Reading order: [`scope`] (what is taken and what is left alone) → [`rules`] (the same as rules
//! over the four places where the kernel asks) → [`nft`] or [`iptables`] (the rules in the
//! language of a tool) → [`tool`] (running it).

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::output::{self, Format};

mod iptables;
mod nft;
mod rules;
mod scope;
mod tool;

use scope::Scope;
use tool::Step;

const EXAMPLES: &str = "\
Examples:
  tulle redirect print
  tulle redirect apply --proxy-uid 1337 --exclude-inbound-ports 22
  ip netns exec stock tulle redirect apply
  tulle redirect remove

What is taken: every TCP connection that begins after `apply`, IPv4 and IPv6. Connections that are
open stay as they are. Left alone: the proxy's own connections, what stays inside the namespace,
what is excluded, and everything that is not TCP (UDP and ICMP included).

A connection that would leave the namespace past the proxy is refused. Without the proxy, every
connection is refused, never passed on.";

/// Take over the TCP traffic of this network namespace, or give it back.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put the rules in force; a second time replaces them in one step.
    #[command(after_help = "Example:\n  tulle redirect apply --proxy-uid 1337 \
        --exclude-outbound-ports 5432,9000-9100")]
    Apply {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        with: With,
    },
    /// Take the rules back; nothing happens if there are none.
    ///
    /// Open connections that go through the proxy are cut, unless they are kept.
    #[command(after_help = "Example:\n  tulle redirect remove --keep-open")]
    Remove {
        /// Only stop redirecting new connections; a later `remove` forgets the open ones.
        #[arg(long)]
        keep_open: bool,
        #[command(flatten)]
        with: With,
    },
    /// Print what `apply` would do in a namespace without rules; needs no rights.
    #[command(after_help = "Example:\n  tulle redirect print --backend iptables -o json")]
    Print {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        with: With,
        /// How it is printed.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
}

#[derive(Debug, Clone, Copy, Args)]
struct With {
    /// Which tool talks to the kernel; auto takes nft where it works, else iptables.
    #[arg(long, value_enum, default_value = "auto")]
    backend: Backend,
}

/// Which tool talks to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Backend {
    Auto,
    Nft,
    Iptables,
}

impl Backend {
    fn includes(self, tool: Backend) -> bool {
        self == Backend::Auto || self == tool
    }
}

const NOTHING: &str = "nothing to remove";

/// Runs the verb.
///
/// # Errors
/// The tool is missing or the kernel refuses.
pub fn run(settings: Settings) -> Result<ExitCode> {
    match settings.verb {
        Verb::Apply { scope, with } => apply(&scope, with.backend),
        Verb::Remove { keep_open: true, with } => keep_open(with.backend),
        Verb::Remove { keep_open: false, with } => remove(with.backend),
        Verb::Print { scope, with, output } => print(&scope, with.backend, output),
    }
}

fn apply(scope: &Scope, backend: Backend) -> Result<ExitCode> {
    let chains = rules::chains(scope);
    let used = match backend {
        Backend::Nft => nft::apply(&chains).map(|()| Backend::Nft),
        Backend::Iptables => iptables::apply(&chains).map(|()| Backend::Iptables),
        Backend::Auto => match nft::check(&chains) {
            Ok(()) => nft::apply(&chains).map(|()| Backend::Nft),
            Err(refused) => iptables::apply(&chains)
                .map(|()| Backend::Iptables)
                .map_err(|error| error.context(format!("nft does not work here: {refused:#}"))),
        },
    }?;
    // Rules of an earlier run with the other tool would decide first, or refuse what is allowed.
    let name = match used {
        Backend::Nft => {
            iptables::remove_if_present()?;
            "nft"
        }
        Backend::Auto | Backend::Iptables => {
            nft::remove_if_present()?;
            "iptables"
        }
    };
    let Scope { inbound, outbound, proxy_uid, .. } = scope;
    output::line(&format!(
        "TCP of this namespace goes through the proxy of uid {proxy_uid} (rules by {name}): \
         inbound to port {inbound}, outbound to port {outbound}"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// New connections go their own way, open ones stay translated.
fn keep_open(backend: Backend) -> Result<ExitCode> {
    let chains = rules::chains_that_only_translate_open_connections();
    let mut kept = false;
    if backend.includes(Backend::Nft) && nft::is_present()? {
        nft::apply(&chains)?;
        kept = true;
    }
    if backend.includes(Backend::Iptables) && iptables::is_present()? {
        iptables::apply(&chains)?;
        kept = true;
    }
    output::line(match kept {
        true => "new connections go their own way; open ones stay until `tulle redirect remove`",
        false => NOTHING,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn remove(backend: Backend) -> Result<ExitCode> {
    let mut removed = false;
    if backend.includes(Backend::Nft) {
        removed |= nft::remove_if_present()?;
    }
    if backend.includes(Backend::Iptables) {
        removed |= iptables::remove_if_present()?;
    }
    output::line(match removed {
        true => "TCP of this namespace goes its own way again",
        false => NOTHING,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print(scope: &Scope, backend: Backend, format: Format) -> Result<ExitCode> {
    let chains = rules::chains(scope);
    let steps: Vec<Step> = match backend {
        Backend::Auto | Backend::Nft => vec![nft::step(&chains)],
        Backend::Iptables => iptables::steps_on_clean_namespace(&chains),
    };
    match format {
        Format::Json => output::json(&steps)?,
        Format::Table => {
            let texts: Vec<String> = steps.iter().map(ToString::to_string).collect();
            output::text(&texts.join("\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
