use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};

use super::Process;
use crate::deadline::{SOON, until};
use crate::ports::PortLease;

fn shell(script: &str, directory: &std::path::Path) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::spawn("shell", command, directory).unwrap()
}

fn exists(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_ok()
}

#[tokio::test]
async fn output_is_captured_and_the_end_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = shell("echo out; echo err >&2; exit 3", directory.path());
    let status = process.wait_exit(SOON).await.unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("out\n", "err\n"));
}

#[tokio::test]
async fn dropping_the_guard_ends_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let process = shell("exec sleep 600", directory.path());
    let pid = process.pid();
    assert!(exists(pid));
    drop(process);
    assert!(!exists(pid));
}

#[tokio::test]
async fn a_process_that_ends_before_it_is_ready_is_reported_with_its_words() {
    let directory = tempfile::tempdir().unwrap();
    let port = PortLease::take().unwrap();
    let mut process = shell("echo no such thing >&2; exit 1", directory.path());
    let error = process.ready(port.address(), "/ready", SOON).await.unwrap_err().to_string();
    assert!(error.contains("no such thing"), "{error}");
}

#[tokio::test]
async fn a_process_that_stays_is_reported_as_not_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = shell("trap '' TERM; echo up; while :; do sleep 1; done", directory.path());
    until("the trap", SOON, || {
        let up = process.stdout().contains("up");
        async move { up.then_some(()) }
    })
    .await
    .unwrap();
    process.terminate();
    assert!(process.wait_exit(Duration::from_millis(50)).await.is_err());
}
