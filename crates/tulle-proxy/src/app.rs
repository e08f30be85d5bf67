//! The composition root.

use std::process::ExitCode;

use crate::settings::Settings;

/// Runs a process until it is told to stop.
#[must_use]
pub fn run(_settings: Settings) -> ExitCode {
    ExitCode::FAILURE
}
