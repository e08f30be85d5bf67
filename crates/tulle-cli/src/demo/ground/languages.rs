//! The services in three languages, with nothing but their standard libraries: `order` in
//! JavaScript (Node.js), `stock` in Python, `payment` in Go. Their sources are part of this
//! program; each is started with its port, its name and its version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use super::Launch;
use crate::demo::config::{ORDER, STOCK, Service};

const ORDER_SOURCE: &str = include_str!("services/order.mjs");
const STOCK_SOURCE: &str = include_str!("services/stock.py");
const PAYMENT_SOURCE: &str = include_str!("services/payment.go");

/// What has to be on this machine: how to ask for it, and what to install if nobody answers.
const NEEDED: [(&[&str], &str); 5] = [
    (&["node", "--version"], "node runs `order`: apt-get install nodejs (18 or newer)"),
    (&["python3", "--version"], "python3 runs `stock`: apt-get install python3"),
    (&["go", "version"], "go builds `payment`: apt-get install golang, or https://go.dev/dl"),
    (&["ip", "-Version"], "ip makes namespaces: apt-get install iproute2"),
    (&["setpriv", "--version"], "setpriv runs proxies as their own user: util-linux"),
];

/// The services, ready to be started.
#[derive(Debug)]
pub(super) struct Languages {
    order: PathBuf,
    stock: PathBuf,
    payment: PathBuf,
}

impl Languages {
    /// Writes the sources to `directory` and builds what has to be built.
    ///
    /// # Errors
    /// Everything that is missing, each with what to install.
    pub(super) async fn prepare(directory: &Path) -> Result<Self> {
        let mut missing = Vec::new();
        for (question, remedy) in NEEDED {
            if !answers(question).await {
                missing.push(remedy);
            }
        }
        if !missing.is_empty() {
            bail!("what `--namespaces` needs is missing:\n  {}", missing.join("\n  "));
        }
        let directory = directory.join("bin");
        let write = |name: &str, source: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, source)?;
            Ok(path)
        };
        let source = write("payment.go", PAYMENT_SOURCE)?;
        let new = Self {
            order: write("order.mjs", ORDER_SOURCE)?,
            stock: write("stock.py", STOCK_SOURCE)?,
            payment: directory.join("payment"),
        };
        build_go(&source, &new.payment).await?;
        Ok(new)
    }

    /// The program of a service; port, name and version are to follow.
    pub(super) fn launch(&self, service: Service) -> Launch {
        let text = |path: &Path| path.display().to_string();
        let (program, arguments) = match service.host {
            host if host == ORDER.host => ("node".to_owned(), vec![text(&self.order)]),
            host if host == STOCK.host => ("python3".to_owned(), vec![text(&self.stock)]),
            _ => (text(&self.payment), Vec::new()),
        };
        Launch { program, arguments }
    }
}

/// Whether a program is there and answers.
async fn answers(question: &[&str]) -> bool {
    let [program, arguments @ ..] = question else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).status().await.is_ok_and(|status| status.success())
}

async fn build_go(source: &Path, program: &Path) -> Result<()> {
    let mut command = Command::new("go");
    command.args(["build", "-o"]).arg(program).arg(source).stdin(Stdio::null());
    // One file of the standard library needs neither a C compiler nor another tool chain.
    command.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    let output = command.kill_on_drop(true).output().await.context("running go")?;
    if !output.status.success() {
        bail!("go build: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
