//! `tulle-control`: reads settings, starts the [`App`], stops on SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tulle_control::app::App;
use tulle_control::logs::Logs;
use tulle_control::settings::{Command, CommandLine, Serve, Settings};

fn main() -> ExitCode {
    let Command::Serve(serve) = CommandLine::parse().command;
    let logs = Logs::start(&serve);
    let outcome = run(*serve);
    if let Err(error) = &outcome {
        tracing::error!("{error:#}");
    }
    logs.finish();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(serve: Serve) -> anyhow::Result<()> {
    let settings = Settings::check(serve)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let app = App::bind(settings).await?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        app.run(shutdown).await
    })
}
