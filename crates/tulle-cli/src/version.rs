//! `tulle version`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::output::{self, Format};

/// Print the version.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tulle version -o json")]
pub struct Settings {
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Runs the verb.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    match settings.output {
        Format::Json => output::json(&json!({ "version": version }))?,
        Format::Table => output::line(&format!("tulle {version}"))?,
    }
    Ok(ExitCode::SUCCESS)
}
