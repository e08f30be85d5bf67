//! What peers do that mean no good, or do not know what they do: each is refused with its reason or
//! bounded, and what others registered stays as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tulle_control::admin::MAX_WAITS;
use tulle_runtime::admin::MAX_CONNECTIONS;
use tulle_xds::proto::tulle::v1 as proto;
use tulle_xds::session::message::ResourceType;

use proto::{agent_down::Message as Down, agent_up::Message as Up};

use crate::agent::{Agent, hello};
use crate::client::Client;
use crate::neighbour::Neighbour;
use crate::scene::{Control, DEADLINE, Place};

fn registration(hello: &mut proto::Hello) -> &mut proto::Registration {
    hello.registration.as_mut().expect("there")
}

type Spoil = fn(&mut proto::Hello);

const BAD: &[(&str, Spoil)] = &[
    ("more than 317 bytes in a label", |hello| {
        registration(hello).labels.insert("app".into(), "x".repeat(1024 * 1024));
    }),
    ("more than 64 labels", |hello| {
        let label = |number: usize| (format!("label-{number}"), String::new());
        hello.labels = (0..10_000).map(label).collect();
    }),
    ("more than 64 ports", |hello| {
        let port = proto::Port { name: "p".into(), number: 1, ..Default::default() };
        registration(hello).ports = vec![port; 10_000];
    }),
    ("port 70000 does not exist", |hello| registration(hello).ports[0].app_port = 70_000),
    ("not a protocol", |hello| registration(hello).ports[0].protocol = "x".repeat(100_000)),
    ("port name", |hello| registration(hello).ports[0].name = "x\u{0}".repeat(10_000)),
    ("service \"*\"", |hello| registration(hello).service = "*".into()),
    ("service \"*.shop\"", |hello| registration(hello).service = "*.shop".into()),
    ("service \"a|b\"", |hello| registration(hello).service = "a|b".into()),
    ("service \"a:80\"", |hello| registration(hello).service = "a:80".into()),
    ("service \"../../etc\"", |hello| registration(hello).service = "../../etc".into()),
    ("service \"\\u{202e}pohs\"", |hello| registration(hello).service = "\u{202e}pohs".into()),
    ("service \"xxx", |hello| registration(hello).service = "x".repeat(500_000)),
    ("cannot be dialled", |hello| registration(hello).address = "0.0.0.0".into()),
    ("cannot be dialled", |hello| registration(hello).address = "224.0.0.1".into()),
    ("service account", |hello| hello.service_account = "x/../y".into()),
    ("bytes in the instance", |hello| hello.instance = "x".repeat(1_000_000)),
];

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_reason_and_harms_nobody() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let neighbour = Neighbour::new(&control).await;
    for (reason, spoil) in BAD {
        let mut bad = hello("other-1", "b");
        spoil(&mut bad);
        let mut agent = Agent::connect(&control, bad).await;
        let Down::Refused(refused) = agent.next().await else { panic!("{reason}: taken") };
        assert!(refused.reason.contains(reason), "{reason}: {}", refused.reason);
        assert!(refused.reason.len() < 1_000, "{reason}: {} bytes", refused.reason.len());
    }
    neighbour.check_unharmed(&control).await;
    control.stop().await;
}

#[tokio::test]
async fn streams_that_do_not_speak_the_protocol_end_with_their_reason() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let neighbour = Neighbour::new(&control).await;
    let ends = async |mut agent: Agent| {
        let ended = timeout(DEADLINE, async {
            loop {
                match agent.messages.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended without a word"),
                    Err(status) => return status,
                }
            }
        });
        let status = ended.await.expect("in time");
        (status.code(), status.message().to_owned())
    };
    let silent = Agent::open(control.channel().await).await;
    let nameless = Agent::connect(&control, proto::Hello::default()).await;
    assert_eq!(ends(nameless).await.0, Code::InvalidArgument);
    let early = Agent::open(control.channel().await).await;
    early.ready(true).await;
    let (code, text) = ends(early).await;
    assert!(code == Code::InvalidArgument && text.contains("not a Hello"), "{code} {text}");
    let twice = Agent::connect(&control, proto::Hello { registration: None, ..hello("x", "x") });
    let twice = twice.await;
    twice.say(Up::Hello(hello("order-1", "b"))).await;
    let (code, text) = ends(twice).await;
    assert!(code == Code::InvalidArgument && text.contains("second Hello"), "{code} {text}");
    let mut huge = hello("other-1", "b");
    let label = |number: usize| (number.to_string(), "x".repeat(1024));
    huge.labels = (0..3 * 1024).map(label).collect::<BTreeMap<_, _>>().into_iter().collect();
    let (code, text) = ends(Agent::connect(&control, huge).await).await;
    assert!(code == Code::OutOfRange && text.contains("too large"), "{code} {text}");
    let (code, text) = ends(silent).await;
    assert!(code == Code::DeadlineExceeded && text.contains("no Hello"), "{code} {text}");
    neighbour.check_unharmed(&control).await;
    control.stop().await;
}

/// One says of the service's port that it is TCP, another that it is HTTP; a third claims the name
/// of a workload that is there.
#[tokio::test]
async fn contradictory_registrations_leave_the_service_as_the_first_declared_it() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut neighbour = Neighbour::new(&control).await;
    let before = neighbour.client.fetch(ResourceType::Listener, "order.shop:80").await;
    let mut other = hello("order-2", "b");
    other.address = "10.0.0.2".into();
    registration(&mut other).ports[0].name = "tcp".into();
    let mut contrary = Agent::connect(&control, other).await;
    assert!(matches!(contrary.next().await, Down::Registered(_)));
    contrary.ready(true).await;
    let both = |json: &serde_json::Value| json[1]["ready"] == true;
    control.wait("/api/v1/registry", both).await;
    let told = neighbour.client.next().await;
    assert!(told.rtype == ResourceType::Endpoints, "only where it is: {told:?}");
    let mut newcomer = Client::connect(&control).await;
    let after = newcomer.fetch(ResourceType::Listener, "order.shop:80").await;
    assert_eq!(after.one().version, before.one().version);
    let put = r#"{"service":"order.shop","address":"10.6.6.6","ports":[{"name":"p","number":80}]}"#;
    let (status, body) = control.call("PUT", "/api/v1/registry/shop/order-1", put).await;
    assert_eq!((status, body.contains("registered by its sidecar")), (409, true), "{body}");
    control.stop().await;
}

#[tokio::test]
async fn a_thousand_streams_that_never_read_keep_nobody_waiting() {
    const STREAMS: usize = 1_000;
    /// Fewer than a connection takes.
    const PER_CONNECTION: usize = 125;
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let neighbour = Neighbour::new(&control).await;
    let mut deaf = Vec::new();
    while deaf.len() < STREAMS {
        let channel = control.channel().await;
        for _ in 0..PER_CONNECTION {
            let agent = Agent::open(channel.clone()).await;
            let name = format!("deaf-{}", deaf.len());
            agent.say(Up::Hello(proto::Hello { registration: None, ..hello(&name, "d") })).await;
            deaf.push(agent);
        }
    }
    let listed = |json: &serde_json::Value| json.as_array().is_some_and(|all| all.len() > STREAMS);
    control.wait("/api/v1/proxies", listed).await;
    let path = "/api/v1/proxies/shop/deaf-7/config?kind=clusters";
    let asked = (0..40).map(|_| control.call("GET", path, ""));
    let mut refused = Vec::new();
    for (status, body) in futures_of(asked).await {
        assert!(matches!(status, 503 | 504), "{status} {body}");
        refused.push(status);
    }
    assert_eq!(refused.len(), 40);
    let mut other = hello("late-1", "l");
    registration(&mut other).service = "late.shop".into();
    let mut late = Agent::connect(&control, other).await;
    assert!(matches!(late.next().await, Down::Registered(_)));
    late.say(Up::Draining(proto::Draining { deadline_seconds: 0 })).await;
    assert!(matches!(late.next().await, Down::Withdrawn(_)));
    drop((late, deaf));
    let alone = |json: &serde_json::Value| json.as_array().is_some_and(|all| all.len() == 2);
    control.wait("/api/v1/proxies", alone).await;
    let alone = |json: &serde_json::Value| json.as_array().is_some_and(|all| all.len() == 1);
    control.wait("/api/v1/registry", alone).await;
    neighbour.check_unharmed(&control).await;
    control.stop().await;
}

/// All at once; the answers in their order.
async fn futures_of<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(done.drain(..).flatten().collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

/// Sends bytes to the admin server and reads whatever comes until it hangs up.
async fn says(control: &Control, bytes: &str) -> String {
    let mut socket = TcpStream::connect(control.admin).await.expect("connected");
    socket.write_all(bytes.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A server that refuses a body may reset what is left of it.
    let _ = timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn half_a_request_ends_in_time_and_a_huge_one_at_its_limit() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let neighbour = Neighbour::new(&control).await;
    let put = format!(
        "PUT /api/v1/registry/shop/half HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Content-Type: application/json\r\n",
        control.admin
    );
    let half = format!("{put}Content-Length: 100\r\n\r\n{{\"service\":");
    let huge = format!("{put}Content-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let (half, huge, nothing) =
        tokio::join!(says(&control, &half), says(&control, &huge), says(&control, "PUT /api"));
    assert!(half.starts_with("HTTP/1.1 408 "), "{half}");
    assert!(huge.starts_with("HTTP/1.1 413 ") && huge.contains("65536 bytes"), "{huge}");
    assert!(nothing.is_empty() || nothing.starts_with("HTTP/1.1 4"), "{nothing}");
    neighbour.check_unharmed(&control).await;
    control.stop().await;
}

#[tokio::test]
async fn the_admin_server_takes_few_connections_and_keeps_no_silent_one() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(control.admin).await.expect("connected"));
    }
    let mut next = TcpStream::connect(control.admin).await.expect("in the backlog");
    let ask =
        format!("GET /ready HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", control.admin);
    next.write_all(ask.as_bytes()).await.expect("written");
    let mut answer = String::new();
    let soon = timeout(Duration::from_secs(1), next.read_to_string(&mut answer));
    assert!(soon.await.is_err(), "one too many was served: {answer}");
    drop(silent.pop());
    timeout(DEADLINE, next.read_to_string(&mut answer)).await.expect("a place").expect("read");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Nobody gives up a place, and yet there are some again.
    silent.push(TcpStream::connect(control.admin).await.expect("connected"));
    let (status, _) = control.call("GET", "/ready", "").await;
    assert_eq!(status, 200);
    drop(silent);
    control.stop().await;
}

#[tokio::test]
async fn those_who_wait_leave_room_for_those_who_do_not() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    // One more than there are places: one is told so, whichever it is, and the others wait.
    let mut waiting = JoinSet::new();
    for _ in 0..=MAX_WAITS {
        let ask = "GET /api/v1/wait?generation=1000000&seconds=300 HTTP/1.1\r\n";
        let ask = format!("{ask}Host: {}\r\nConnection: close\r\n\r\n", control.admin);
        let mut socket = TcpStream::connect(control.admin).await.expect("connected");
        waiting.spawn(async move {
            socket.write_all(ask.as_bytes()).await.expect("written");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.expect("read");
            answer
        });
    }
    let refused = timeout(DEADLINE, waiting.join_next()).await.expect("one is refused");
    let refused = refused.expect("many").expect("no panic");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("16 requests wait already"), "{refused}");
    // There is room beside them for as many as do not wait, or need not.
    let (status, body) = control.call("GET", "/api/v1/wait", "").await;
    assert_eq!(status, 200, "{body}");
    let neighbour = Neighbour::new(&control).await;
    neighbour.check_unharmed(&control).await;
    // Whoever hangs up gives its place back.
    drop(waiting);
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let path = "/api/v1/wait?generation=1000000&seconds=0";
        let (status, body) = control.call("GET", path, "").await;
        if status == 504 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{status} {body}");
    }
    control.stop().await;
}
