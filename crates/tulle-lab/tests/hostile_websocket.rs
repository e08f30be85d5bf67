//! WebSocket through the proxy between two peers that are not ours: cut frames, fragments, PINGs,
//! closing handshakes from both sides, messages of 16 MiB, and a peer that just goes.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::{Program, python};
use tulle_lab::oracle::Stage;
use tulle_lab::process::Process;

/// Everything the client plays; a case that is left out is a case that failed.
const CASES: [&str; 9] = [
    "messages",
    "large",
    "fragments",
    "pings",
    "close_by_client",
    "close_by_server",
    "drop_is_no_close",
    "cut_frames",
    "many",
];
/// All cases together, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn peer(name: &str, arguments: &[&str], directory: &Path) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/websocket.py");
    let mut command = Command::new(python().unwrap());
    command.arg(script).args(arguments);
    Process::spawn(name, command, directory).unwrap()
}

#[tokio::test]
async fn peers_understand_each_other_through_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let server = peer("server", &["server"], directory.path());
    let port = until("the server's port", SOON, || {
        let port = server.stdout().trim().parse::<u16>().ok();
        async move { port }
    });
    let port = port.await.unwrap_or_else(|error| panic!("{error}\n{}", server.tail()));
    let config = include_str!("hostile/websocket.yaml").replace("{{peer}}", &port.to_string());
    let stage = Stage::open(Program::Tulle, &config).await.unwrap();
    let address = stage.listener("http").unwrap().to_string();
    let mut client = peer("client", &["client", &address], directory.path());
    let ended = client.wait_exit(LIMIT).await.unwrap();
    let played: Vec<String> = client.stdout().lines().map(str::to_owned).collect();
    let expected: Vec<String> = CASES.iter().map(|case| format!("ok {case}")).collect();
    assert_eq!(played, expected, "{}", client.tail());
    assert!(ended.success(), "{}", client.tail());
}
