//! `tulle`, the command line. Each verb is a module that parses its own arguments and returns an
//! exit code: 0 fine, 1 something was found or went wrong, 2 bad use.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod analyze;
mod control;
mod demo;
mod duration;
mod explain;
mod files;
mod output;
mod proxy_config;
mod proxy_status;
mod redirect;
mod version;
mod wait;

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
    Explain(Box<explain::Settings>),
    ProxyStatus(proxy_status::Settings),
    ProxyConfig(proxy_config::Settings),
    Redirect(redirect::Settings),
    Version(version::Settings),
    Wait(wait::Settings),
    /// The application of the demonstration: answers with what it is and what it was asked.
    #[command(hide = true)]
    DemoApp(demo::app::Settings),
    /// The load of the demonstration: requests at a steady rate, every failure counted.
    #[command(hide = true)]
    DemoLoad(demo::load::Settings),
}

fn main() -> ExitCode {
    let CommandLine { verb } = CommandLine::parse();
    let outcome = match verb {
        Verb::Demo(settings) => demo::run(settings),
        Verb::Analyze(settings) => analyze::run(&settings),
        Verb::Explain(settings) => explain::run(&settings),
        Verb::ProxyStatus(settings) => proxy_status::run(&settings),
        Verb::ProxyConfig(settings) => proxy_config::run(&settings),
        Verb::Redirect(settings) => redirect::run(settings),
        Verb::Version(settings) => version::run(&settings),
        Verb::Wait(settings) => wait::run(&settings),
        Verb::DemoApp(settings) => demo::app::run(settings),
        Verb::DemoLoad(settings) => demo::load::run(settings),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("tulle: {error:#}");
        ExitCode::FAILURE
    })
}
