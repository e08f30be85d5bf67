//! Shows what the stock Envoy does in a row of the table, and where `tulle-proxy` differs:
//! `cargo run -p tulle-lab --bin oracle -- [--subject envoy|tulle|none] [--group G] [NAME-PART]…`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tulle_lab::envoy::Program;
use tulle_lab::oracle::{self, Group, Row, rows};

/// Plays rows of the table against the stock Envoy.
#[derive(Debug, Parser)]
struct Settings {
    /// Rows whose name contains one of these; all without it.
    names: Vec<String>,
    /// Rows of one group only: routing, http1, resilience, http2, tcp, records.
    #[arg(long)]
    group: Option<String>,
    /// Whom to compare with; `none` prints Envoy's transcripts.
    #[arg(long, value_enum, default_value = "tulle")]
    subject: Subject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    Envoy,
    Tulle,
    None,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let settings = Settings::parse();
    let mut disagreed = false;
    for group in Group::ALL {
        if settings.group.as_ref().is_some_and(|wanted| wanted != group.name()) {
            continue;
        }
        let wanted = |row: &Row| {
            let named = |part: &String| row.name.contains(part.as_str());
            settings.names.is_empty() || settings.names.iter().any(named)
        };
        let rows: Vec<Row> = rows::of(group).into_iter().filter(wanted).collect();
        if !rows.is_empty() {
            disagreed |= show(group, &rows, settings.subject).await?;
        }
    }
    Ok(if disagreed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Plays the rows of one group; whether the two programs disagreed anywhere.
async fn show(group: Group, rows: &[Row], subject: Subject) -> Result<bool> {
    let subject = match subject {
        Subject::Envoy => Program::Envoy,
        Subject::Tulle => Program::Tulle,
        Subject::None => {
            let transcripts = oracle::run(Program::Envoy, &group.config()?, rows).await?;
            for (row, lines) in rows.iter().zip(transcripts) {
                println!("{}: {}\n    {}\n", row.name, row.behaviour, lines.join("\n    "));
            }
            return Ok(false);
        }
    };
    let found = oracle::compare_rows(group, rows, subject).await?;
    for disagreement in &found {
        println!("{}\n{}", disagreement.row, disagreement.lines);
    }
    println!("{}: {} of {} rows agree", group.name(), rows.len() - found.len(), rows.len());
    Ok(!found.is_empty())
}
