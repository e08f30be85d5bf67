//! Switches features of `tulle-proxy` off, one after the other, and sees whether the rows of the
//! oracle notice: `cargo run -p tulle-lab --bin mutants -- [NAME-PART]…`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tulle_lab::envoy::Program;
use tulle_lab::oracle::mutants::{self, Mutation};
use tulle_lab::oracle::{self, Group, Row, differences, rows};

/// Plays the rows that each mutation names.
#[derive(Debug, Parser)]
struct Settings {
    /// Mutations whose name contains one of these; all without it.
    names: Vec<String>,
    /// Also lists the rows that no mutation names and that own no line of a configuration.
    #[arg(long)]
    unnamed: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let settings = Settings::parse();
    let all = mutants::list()?;
    let program = mutants::build(&all)?;
    let wanted = |mutation: &&Mutation| {
        let named = |part: &String| mutation.name.contains(part.as_str());
        settings.names.is_empty() || settings.names.iter().any(named)
    };
    let chosen: Vec<&Mutation> = all.iter().filter(wanted).collect();
    let mut survivors = 0;
    for group in Group::ALL {
        survivors += play(group, &chosen, &program).await?;
    }
    let named: BTreeSet<&str> =
        chosen.iter().flat_map(|one| &one.rows).map(String::as_str).collect();
    println!("{} mutations, {} rows named, {survivors} survivors", chosen.len(), named.len());
    if settings.unnamed {
        println!("guarded by nothing: {}", mutants::unguarded(&all)?.join(" "));
    }
    Ok(if survivors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Plays the rows of one group under each mutation that names some; how many did not notice.
async fn play(group: Group, mutations: &[&Mutation], program: &std::path::Path) -> Result<usize> {
    let names = |mutation: &Mutation, row: &Row| mutation.rows.iter().any(|name| name == row.name);
    let mut rows = rows::of(group);
    rows.retain(|row| mutations.iter().any(|mutation| names(mutation, row)));
    if rows.is_empty() {
        return Ok(0);
    }
    let config = group.config()?;
    let right = oracle::run(Program::Envoy, &config, &rows).await?;
    let right: BTreeMap<&str, Vec<String>> = rows.iter().map(|row| row.name).zip(right).collect();
    // Without a mutation nothing may differ: else a row would seem to notice.
    let mutant = |number| Program::Mutant { program, number };
    let sound = oracle::run(mutant(0), &config, &rows).await?;
    let deliberate = |row: &Row| differences::of(row.name).is_some();
    let mut survivors = 0;
    for (row, lines) in rows.iter().zip(&sound) {
        if *lines != right[row.name] && !deliberate(row) {
            println!("UNSOUND {}: differs without a mutation", row.name);
            survivors += 1;
        }
    }
    let sound: BTreeMap<&str, Vec<String>> = rows.iter().map(|row| row.name).zip(sound).collect();
    for mutation in mutations {
        let own: Vec<Row> = rows.iter().filter(|row| names(mutation, row)).cloned().collect();
        if own.is_empty() {
            continue;
        }
        let seen = oracle::run(mutant(mutation.number), &config, &own).await;
        let blind: Vec<&str> = match &seen {
            Ok(seen) => {
                let pairs = own.iter().zip(seen);
                let same = pairs.filter(|(row, lines)| sound[row.name] == **lines);
                same.map(|(row, _)| row.name).collect()
            }
            // A proxy that does not even start shows nothing about any row.
            Err(error) => {
                println!("NOT PLAYED {}: {error:#}", mutation.name);
                own.iter().map(|row| row.name).collect()
            }
        };
        survivors += blind.len();
        match blind.as_slice() {
            [] => println!("{}: {} rows notice", mutation.name, own.len()),
            blind => {
                println!("SURVIVED {} ({}): {}", mutation.name, mutation.what, blind.join(" "))
            }
        }
    }
    Ok(survivors)
}
