//! Proxies that run an Envoy bootstrap: the stock Envoy, and ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::deadline::SOON;
use crate::oracle::mutants::SWITCH;
use crate::process::{Process, binary};

/// Which program runs the bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program<'p> {
    /// The stock Envoy, as installed by `tools/setup.sh`.
    Envoy,
    /// `tulle-proxy` of this workspace.
    Tulle,
    /// `tulle-proxy` built with mutations (`oracle::mutants`), one of them at work.
    Mutant {
        /// Where it is.
        program: &'p Path,
        /// The mutation; 0 for none.
        number: u32,
    },
}

impl Program<'_> {
    /// A short name for files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Tulle | Self::Mutant { .. } => "tulle-proxy",
        }
    }

    /// Where the program is.
    ///
    /// # Errors
    /// When it is not installed or built; the message says how to get it.
    pub fn path(self) -> Result<PathBuf> {
        match self {
            Self::Tulle => binary("tulle-proxy"),
            Self::Mutant { program, .. } => Ok(program.to_owned()),
            Self::Envoy => tool("envoy"),
        }
    }

    /// The command that serves the bootstrap at `config` with one worker.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn serve(self, config: &Path) -> Result<Command> {
        let mut command = Command::new(self.path()?);
        command.arg("-c").arg(config).args(["--concurrency", "1", "-l", "warning"]);
        match self {
            // Several run side by side; the shared memory of a hot restart would meet. Its log
            // is written when it is asked for, not ten seconds later.
            Self::Envoy => {
                command.args(["--disable-hot-restart", "--file-flush-interval-msec", "20"]);
            }
            Self::Mutant { number, .. } => drop(command.env(SWITCH, number.to_string())),
            Self::Tulle => {}
        }
        Ok(command)
    }

    /// Asks the program whether it accepts a bootstrap; its words if it does not.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn validate(self, config: &Path) -> Result<Result<(), String>> {
        let mut command = Command::new(self.path()?);
        let output = command.args(["--mode", "validate", "-c"]).arg(config).output()?;
        let words = || String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(if output.status.success() { Ok(()) } else { Err(words()) })
    }

    /// Starts it with a bootstrap and waits until it listens on these ports.
    ///
    /// # Errors
    /// When it does not start; the message quotes its output.
    pub async fn start(self, config: &str, ports: &[u16], directory: &Path) -> Result<Process> {
        let file = directory.join(format!("{}.yaml", self.name()));
        fs::write(&file, config)?;
        let mut process = Process::spawn(self.name(), self.serve(&file)?, directory)?;
        process.listening(ports, SOON).await?;
        Ok(process)
    }
}

/// A program installed by `tools/setup.sh`: below `TULLE_TOOLS`, or the repository's `.tools`.
///
/// # Errors
/// When it is not there; the message says how to get it.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = tools().join("bin").join(name);
    if !path.exists() {
        bail!("{} is missing: {INSTALL}", path.display());
    }
    fs::canonicalize(&path).with_context(|| format!("{} leads nowhere", path.display()))
}

/// The Python that `tools/setup.sh` gave its packages.
///
/// # Errors
/// When it is not there; the message says how to get it.
pub fn python() -> Result<PathBuf> {
    // Not resolved: an environment is known by the path of its program.
    let path = tools().join("venv/bin/python");
    if path.exists() { Ok(path) } else { bail!("{} is missing: {INSTALL}", path.display()) }
}

const INSTALL: &str = "run tools/setup.sh tests";

fn tools() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "where the Makefile keeps its tools")]
    let tools = std::env::var_os("TULLE_TOOLS").map(PathBuf::from);
    tools.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools"))
}
