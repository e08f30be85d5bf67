//! The table against the stock Envoy (`docs/decisions/0003`): each [`Row`] is one behaviour, run
//! in two proxies with the same bytes; their transcripts must be the same.
//!
//! Told in order: [`rows`] say what is sent and answered, a [`stage`] is one proxy with its
//! backends, a [`transcript`] is what could be observed, [`compare`] holds two of them together.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use row::{Client, Group, Http1Step, Kind, Row};
pub use stage::Stage;

use crate::envoy::Program;

pub mod differences;
pub mod mutants;
mod row;
pub mod rows;
pub mod stage;
pub mod template;
pub mod transcript;

/// What could be observed of each row, as lines.
pub type Transcripts = Vec<Vec<String>>;

/// A proxy without a row's own lines often sends less upstream: that is not waited for.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);

/// Two transcripts of one row that are not the same.
#[derive(Debug)]
pub struct Disagreement {
    /// The row's name.
    pub row: &'static str,
    /// Lines only the oracle (`-`) or only the subject (`+`) has, among those both have.
    pub lines: String,
}

/// Runs all rows of a group in both programs and returns the rows on which they disagree.
///
/// # Errors
/// When a proxy or a backend does not work at all.
pub async fn compare(group: Group, subject: Program<'_>) -> Result<Vec<Disagreement>> {
    compare_rows(group, &rows::of(group), subject).await
}

/// The same for some rows of a group.
///
/// # Errors
/// When a proxy or a backend does not work at all.
pub async fn compare_rows(
    group: Group,
    rows: &[Row],
    subject: Program<'_>,
) -> Result<Vec<Disagreement>> {
    let config = group.config()?;
    let (oracle, subject) =
        tokio::join!(run(Program::Envoy, &config, rows), run(subject, &config, rows));
    Ok(disagreements(rows, oracle.context("the oracle")?, subject.context("the subject")?))
}

/// Runs the group in the stock Envoy with its configuration, and again with every line dropped
/// that a row names as its own; returns the rows that did notice.
///
/// # Errors
/// When a proxy or a backend does not work at all.
pub async fn compare_mutated(group: Group) -> Result<Vec<Disagreement>> {
    let config = group.config()?;
    let mutated = template::mutate(&config);
    let owners = template::owners(&config);
    let mut rows = rows::of(group);
    rows.retain(|row| owners.contains(row.name));
    let oracle = async {
        let stage = Stage::open(Program::Envoy, &config).await?;
        Ok::<_, anyhow::Error>(play(&stage, &rows).await)
    };
    let subject = async {
        let stage = Stage::open_with(Program::Envoy, &mutated, SHORT_PATIENCE).await?;
        Ok::<_, anyhow::Error>(play(&stage, &rows).await)
    };
    let (oracle, subject) = tokio::join!(oracle, subject);
    let (oracle, mut subject) = (oracle.context("the oracle")?, subject.context("the mutant")?);
    let late: Vec<usize> =
        (0..rows.len()).filter(|row| may_be_late(&oracle[*row], &subject[*row])).collect();
    if !late.is_empty() {
        // Whatever comes upstream comes in time now: else nobody would have noticed anything.
        let stage = Stage::open(Program::Envoy, &mutated).await.context("the mutant")?;
        for row in late {
            subject[row] = stage.play(&rows[row]).await;
        }
    }
    Ok(disagreements(&rows, oracle, subject))
}

/// Whether two transcripts differ in nothing that the client saw: what an upstream lacks may only
/// have come late.
fn may_be_late(oracle: &[String], subject: &[String]) -> bool {
    let of_client = |lines: &[String]| {
        let lines = lines.iter().take_while(|line| !line.starts_with(stage::UPSTREAM));
        lines.cloned().collect::<Vec<_>>()
    };
    oracle != subject && of_client(oracle) == of_client(subject)
}

/// Rows that come out differently, and rows that came to no end in the oracle: whoever fails like
/// that one fails alike, and nothing is compared.
fn disagreements(rows: &[Row], oracle: Transcripts, subject: Transcripts) -> Vec<Disagreement> {
    let pairs = oracle.into_iter().zip(subject);
    let wrong = rows.iter().zip(pairs).filter_map(|(row, (oracle, subject))| {
        // Who waits in vain in both has seen nothing in either.
        let unfinished = oracle.iter().any(|line| stage::is_unfinished(line));
        let wrong = oracle != subject || unfinished;
        let lines = || difference(&oracle, &subject);
        wrong.then(|| Disagreement { row: row.name, lines: lines() })
    });
    wrong.collect()
}

/// Runs rows one after the other in one program; a transcript each.
///
/// # Errors
/// When the proxy or a backend does not work at all.
pub async fn run(program: Program<'_>, config: &str, rows: &[Row]) -> Result<Transcripts> {
    let stage = Stage::open(program, config).await?;
    Ok(play(&stage, rows).await)
}

async fn play(stage: &Stage, rows: &[Row]) -> Transcripts {
    let mut transcripts = Vec::with_capacity(rows.len());
    for row in rows {
        transcripts.push(stage.play(row).await);
    }
    transcripts
}

/// Where the configurations of the groups are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle")
}

/// A line-by-line difference: equal lines indented, the oracle's `-`, the subject's `+`; as few
/// of them as can be.
fn difference(oracle: &[String], subject: &[String]) -> String {
    // How many lines the rests have in common, from each pair of places on.
    let mut common = vec![vec![0_usize; subject.len() + 1]; oracle.len() + 1];
    for (i, a) in oracle.iter().enumerate().rev() {
        for (j, b) in subject.iter().enumerate().rev() {
            common[i][j] = match a == b {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let mut text = String::new();
    let (mut i, mut j) = (0, 0);
    while i < oracle.len() || j < subject.len() {
        match (oracle.get(i), subject.get(j)) {
            (Some(a), Some(b)) if a == b => {
                put(&mut text, ' ', a);
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), _) if j == subject.len() || common[i + 1][j] >= common[i][j + 1] => {
                put(&mut text, '-', a);
                i += 1;
            }
            (_, Some(b)) => {
                put(&mut text, '+', b);
                j += 1;
            }
            (_, None) => break,
        }
    }
    text
}

fn put(text: &mut String, sign: char, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {sign} {line}");
}

#[cfg(test)]
mod tests;
