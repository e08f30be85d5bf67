//! The hostile tables against other proxies: the same bytes through `tulle-proxy`, the stock Envoy,
//! HAProxy and nginx: `make peers` writes `docs/reference/hostile.md`.
//!
//! Ends with 1 when ours passes on what two of the three refuse, or frames a message otherwise than
//! two of them do, and [`excused`] has no line for it.

#![allow(dead_code, reason = "of the tables only the bytes are used")]

mod excused;
#[path = "../../../tests/hostile/framing.rs"]
mod framing;
#[path = "../../../tests/hostile/heads.rs"]
mod heads;
mod proxy;
mod report;
#[path = "../../../tests/hostile/row.rs"]
mod row;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tulle_lab::oracle::mutants::root;

use crate::proxy::{Peer, Proxy};
use crate::report::{Compared, Weakness};
use crate::row::Row;

/// Plays the hostile HTTP/1 requests in four proxies and writes down who refuses what.
#[derive(Debug, Parser)]
struct Settings {
    /// Only items whose name contains this; nothing is written then.
    #[arg(long, default_value = "")]
    item: String,
    /// Where the table is written.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// The requests of the tables that every proxy can be asked, and none twice.
fn rows() -> Vec<Row> {
    let mut rows = [framing::rows(), framing::chunk_rows(), heads::rows()].concat();
    rows.retain(|row| row.at == "http" && row.answers.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    rows.retain(|row| seen.insert(row.sent.clone()));
    rows
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let settings = Settings::parse();
    let mut proxies = Vec::new();
    for peer in Peer::ALL {
        proxies.push(Proxy::start(peer).await?);
    }
    let mut all = Vec::new();
    for row in rows().iter().filter(|row| row.item.contains(&settings.item)) {
        let mut seen = Vec::new();
        for proxy in &proxies {
            seen.push(proxy.play(row).await?);
        }
        all.push(Compared { item: row.item, sent: row.sent.clone(), seen });
    }
    let weak: Vec<Weakness<'_>> = all.iter().filter_map(Compared::weakness).collect();
    let unexcused = weak.iter().filter(|weakness| weakness.excuse().is_none());
    let unexcused: Vec<String> = unexcused.map(ToString::to_string).collect();
    for weakness in &unexcused {
        println!("WEAKER {weakness}");
    }
    for item in excused::idle(&weak) {
        println!("IDLE an excuse for {item} that nothing needs");
    }
    println!("{} requests, {} weaker, {} without excuse", all.len(), weak.len(), unexcused.len());
    if settings.item.is_empty() {
        let output = settings.output.unwrap_or_else(|| root().join("docs/reference/hostile.md"));
        std::fs::write(output, report::table(&proxies, &all, &weak))?;
    }
    Ok(if unexcused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
