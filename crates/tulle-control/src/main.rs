//! `tulle-control`: reads settings, starts the [`App`], stops on SIGTERM or SIGINT.

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tulle_control::app::App;
use tulle_control::settings::{Command, CommandLine, Settings};

fn main() -> ExitCode {
    let Command::Serve(serve) = CommandLine::parse().command;
    tulle_control::logging::start(serve.log_level);
    match run(*serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(serve: tulle_control::settings::Serve) -> anyhow::Result<()> {
    let settings = Settings::check(serve)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let app = App::bind(settings).await?;
        tracing::info!(xds = %app.xds()?, admin = %app.admin()?, "serving");
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        app.run(shutdown).await
    })
}
