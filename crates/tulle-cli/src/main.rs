//! `tulle`, the command line. Each verb is a module that parses its own arguments and returns an
//! exit code: 0 fine, 1 something was found or went wrong, 2 bad use.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod analyze;
mod demo;
mod files;
mod output;
mod redirect;

/// Tulle, a service mesh: the command line.
#[derive(Debug, Parser)]
#[command(name = "tulle", version, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Settings),
    Analyze(analyze::Settings),
    Redirect(redirect::Settings),
    /// The application of the demonstration: answers with what it is and what it was asked.
    #[command(hide = true)]
    DemoApp(demo::app::Settings),
}

fn main() -> ExitCode {
    let CommandLine { verb } = CommandLine::parse();
    let outcome = match verb {
        Verb::Demo(settings) => demo::run(settings),
        Verb::Analyze(settings) => analyze::run(&settings),
        Verb::Redirect(settings) => redirect::run(settings),
        Verb::DemoApp(settings) => demo::app::run(settings),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("tulle: {error:#}");
        ExitCode::FAILURE
    })
}
