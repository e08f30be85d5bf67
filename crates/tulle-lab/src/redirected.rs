//! A mesh as machines see it: each workload in a namespace of its own, its traffic redirected to a
//! proxy that runs as a user of its own, one control plane behind a UNIX socket for all of them.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::deadline::{SOON, until};
use crate::netns::Namespace;
use crate::process::{Process, binary};

/// The user that proxies run as.
const PROXY_UID: &str = "1337";

/// The directory of a mesh, which the proxies' user may use, with its configuration in these files.
///
/// # Errors
/// What the system says.
pub fn directory(files: &[(&str, &[u8])]) -> io::Result<TempDir> {
    let directory = tempfile::tempdir()?;
    open_to_all(directory.path())?;
    let config = directory.path().join("config");
    std::fs::create_dir(&config)?;
    for (name, text) in files {
        std::fs::write(config.join(name), text)?;
    }
    Ok(directory)
}

/// Lets the proxies' user use a directory or a socket.
fn open_to_all(path: &Path) -> io::Result<()> {
    set_permissions(path, Permissions::from_mode(0o777))
}

/// Where the control plane of a test in `root` listens.
fn socket(root: &Path) -> PathBuf {
    root.join("xds.sock")
}

/// Starts the control plane of what is in `root/config`, and waits until it can be reached.
///
/// # Errors
/// When it does not start in time.
pub async fn control(root: &Path, admin: &str) -> Result<Process> {
    let socket = socket(root);
    let mut command = Command::new(binary("tulle-control")?);
    command.args(["serve", "--config"]).arg(root.join("config"));
    command.arg("--xds").arg(format!("unix:{}", socket.display()));
    command.args(["--admin", admin]);
    let process = Process::spawn("control", command, root)?;
    let bound =
        until("the control plane's socket", SOON, || async { socket.exists().then_some(()) });
    bound.await.map_err(|error| error.context(process.tail()))?;
    open_to_all(&socket)?;
    Ok(process)
}

/// How the sidecar of a workload of the namespace `test` is started.
///
/// # Errors
/// When it is not built.
pub fn sidecar(root: &Path, name: &str, address: &str) -> Result<Command> {
    let mut command = Command::new(binary("tulle-proxy")?);
    command.arg("sidecar").arg("--control").arg(format!("unix:{}", socket(root).display()));
    command.args(["--workload", &format!("test/{name}"), "--address", address]);
    Ok(command)
}

/// Runs `proxy` in a namespace and redirects the traffic of the namespace to it.
///
/// # Errors
/// When it does not listen in time, or the rules are refused.
pub async fn intercept(
    namespace: &Namespace,
    name: &str,
    proxy: &Command,
    root: &Path,
) -> Result<Process> {
    let mut command = namespace.command("setpriv");
    command.args(["--reuid", PROXY_UID, "--regid", PROXY_UID, "--clear-groups"]);
    command.arg(proxy.get_program()).args(proxy.get_args());
    let mut process = Process::spawn(name, command, root)?;
    process.listening(&[15001, 15006], SOON).await?;
    let tulle = binary("tulle")?.display().to_string();
    namespace.run(&tulle, &["redirect", "apply", "--proxy-uid", PROXY_UID])?;
    Ok(process)
}
