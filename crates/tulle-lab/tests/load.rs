//! The load generator calls every failure by its name and loses no request.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tulle_lab::backend::http1::{Answer, Backend, Step};
use tulle_lab::backend::{http2, tcp};
use tulle_lab::load::{self, Counts};
use tulle_lab::ports::PortLease;

const RUN: Duration = Duration::from_millis(500);
/// A run whose requests all hang is over when their time is, and a stream's period.
const LONGEST: Duration = Duration::from_secs(6);

async fn against(address: std::net::SocketAddr, arguments: &[&str]) -> Counts {
    let target = format!("http://{address}/");
    let common = ["--target", &target, "--rate", "40", "--timeout", "300ms"];
    let counts = load::run(&[&common, arguments].concat(), RUN).await.unwrap();
    assert_eq!(counts.sent, counts.answered + counts.failed, "{counts:?}");
    assert_eq!(counts.sent, 20);
    counts
}

#[tokio::test]
async fn answers_are_counted_and_tallied() {
    let backend = Backend::start().await.unwrap();
    let answer = "HTTP/1.1 200 OK\r\nx-v: 2\r\ncontent-length: 0\r\n\r\n";
    backend.script(vec![Answer::raw(answer); 15]);
    let counts =
        against(backend.address(), &["--tally", "x-v", "--post-every", "5", "--fresh-every", "4"])
            .await;
    assert_eq!((counts.answered, counts.failed), (20, 0), "{counts:?}");
    assert_eq!(counts.tally, BTreeMap::from([("2".to_owned(), 15)]));
    assert!(counts.latency_us.p50 > 0 && counts.latency_us.max >= counts.latency_us.p99);
    let received = backend.received(20).await.unwrap();
    let posts: Vec<_> = received.iter().filter(|r| r.request.method() == "POST").collect();
    let tokens: std::collections::BTreeSet<_> =
        posts.iter().map(|r| r.request.header("x-request-token").unwrap()).collect();
    assert_eq!((posts.len(), tokens.len()), (4, 4), "every POST has a token of its own");
    assert!(backend.connections() >= 5, "{} connections", backend.connections());
}

#[tokio::test]
async fn each_failure_has_its_name() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc";
    let cases = [
        ("server_error", Answer::status(503, "no")),
        ("other_status", Answer::status(404, "no")),
        ("reset", Answer::steps([Step::Reset])),
        ("reset", Answer::steps([Step::Close])),
        ("cut", Answer::raw(half).then(Step::Close)),
        ("cut", Answer::raw(half).then(Step::Reset)),
        ("timeout", Answer::steps([Step::AwaitEnd, Step::Close])),
        ("wrong", Answer::raw("nonsense\r\n\r\n").then(Step::Close)),
    ];
    for (name, answer) in cases {
        let backend = Backend::start().await.unwrap();
        backend.script([answer.clone(), answer]);
        let counts = against(backend.address(), &[]).await;
        assert_eq!(counts.failures, BTreeMap::from([(name.to_owned(), 2)]), "{counts:#?}");
        assert_eq!(counts.described.len(), 2);
    }
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let nobody = PortLease::take().unwrap();
    let counts = against(nobody.address(), &[]).await;
    assert_eq!(counts.failures, BTreeMap::from([("refused".to_owned(), 20)]));
}

#[tokio::test]
async fn a_call_is_judged_by_its_status_and_its_echo() {
    let backend = http2::Backend::start().await.unwrap();
    let wrong = http2::Answer::grpc(b"something else", "0");
    backend.script([wrong, http2::Answer::grpc(b"", "14")]);
    let counts = against(backend.address(), &["--protocol", "grpc"]).await;
    assert_eq!(counts.failures["wrong"], 1);
    assert_eq!(counts.failures["server_error"], 1 + 18, "the rest are no calls at all");
}

#[tokio::test]
async fn a_stream_that_breaks_is_a_failure() {
    let backend = tcp::Backend::start().await.unwrap();
    let mut scripts = vec![vec![tcp::Step::Read(32), tcp::Step::Reset]];
    scripts.extend(vec![vec![tcp::Step::Echo]; 50]);
    backend.script(scripts);
    let target = format!("tcp://{}", backend.address());
    let arguments = ["--target", &target, "--protocol", "tcp", "--rate", "0.1", "--streams", "4"];
    let counts = load::run(&arguments, RUN).await.unwrap();
    assert_eq!((counts.sent, counts.answered, counts.failed), (5, 4, 1), "{counts:#?}");
    assert_eq!(counts.streams, 4);
}

/// Who accepts and says nothing holds requests and streams until their time is over, no longer:
/// each of them is counted.
#[tokio::test]
async fn what_hangs_is_counted_as_a_failure() {
    for (protocol, scheme, streams) in
        [("tcp", "tcp", 4), ("grpc", "http", 0), ("http1", "http", 0), ("http2", "http", 0)]
    {
        let silent = tcp::Backend::start().await.unwrap();
        silent.script(vec![vec![tcp::Step::ReadToEnd]; 20]);
        let target = format!("{scheme}://{}/", silent.address());
        let mut arguments = vec!["--target", &target, "--protocol", protocol, "--timeout", "300ms"];
        arguments.extend(["--rate", "4"]);
        if matches!(protocol, "tcp" | "grpc") {
            arguments.extend(["--streams", "4"]);
        }
        let begun = Instant::now();
        let counts = load::run(&arguments, RUN).await.unwrap();
        let sent = if matches!(protocol, "tcp" | "grpc") { 6 } else { 2 };
        assert_eq!((counts.sent, counts.answered, counts.failed), (sent, 0, sent), "{counts:#?}");
        assert_eq!(counts.failures, BTreeMap::from([("timeout".to_owned(), sent)]), "{protocol}");
        let left = |one: &load::Described| one.detail.contains("under way");
        assert!(!counts.described.iter().any(left), "each in its own time: {counts:#?}");
        // A connection is open as soon as it is accepted, a call when its answer begins.
        assert_eq!(counts.streams, streams, "{protocol}");
        assert!(begun.elapsed() < LONGEST, "{protocol} hung for {:?}", begun.elapsed());
    }
}
