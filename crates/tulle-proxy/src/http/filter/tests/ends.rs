//! However a request ends, each filter that saw it hears of it once, and the record says why.

use std::time::Duration;

use h2::Reason;

use super::chain::play;
use super::message::{read_h1, write};
use super::rig::{Answer, Parts, Rig, Side, locally};
use crate::http::filter::tests::probe::{Act, Play, Wish};

const FOR_EVER: Duration = Duration::from_secs(3600);

/// Where a request is when its caller leaves.
struct Phase {
    play: Play,
    answer: Answer,
    /// Whether all of the request was sent.
    sent: bool,
    /// What is told when it is there; empty for when the backend has the request.
    there: &'static str,
    status: &'static str,
}

fn phases() -> Vec<Phase> {
    let pieces = || Answer::Pieces("200", vec!["hello"]);
    let phase = |play, answer, there| Phase { play, answer, sent: true, there, status: "0" };
    let hold = Wish::Buffer(100);
    vec![
        phase(Play { request: Act::Wait(FOR_EVER), ..play("a") }, pieces(), "a request /x"),
        Phase {
            sent: false,
            ..phase(Play { request_body: hold, ..play("a") }, pieces(), "o request done")
        },
        phase(play("a"), Answer::Never, ""),
        phase(Play { response: Act::Wait(FOR_EVER), ..play("a") }, pieces(), "a response 200"),
        phase(Play { response_body: hold, ..play("a") }, Answer::Hang, ""),
        Phase { status: "200", ..phase(play("a"), Answer::Hang, "o response 200") },
        Phase {
            status: "200",
            ..phase(
                Play { response_body: Wish::Transform, ..play("a") },
                Answer::Hang,
                "o response 200",
            )
        },
    ]
}

async fn leave(down: Side, up: Side, phase: Phase) {
    let Phase { play: a, answer, sent, there, status } = phase;
    let rig = Rig::new((down, up), vec![play("o"), a]).await;
    rig.backend.answers.borrow_mut().push_back(answer);
    let is_there = |told: &[String]| match there {
        "" => !rig.backend.seen.borrow().is_empty(),
        line => told.iter().any(|told| told == line),
    };
    match down {
        Side::H1 => {
            let mut wire = rig.connect().await;
            write(&mut wire, "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nabc").await;
            if sent {
                write(&mut wire, "d").await;
            }
            rig.until(is_there).await;
            wire.get_ref().set_zero_linger().expect("a socket");
        }
        Side::H2 => {
            let (_answer, mut stream, _connection) = rig.open_h2("/x").await;
            stream.send_data("abc".into(), sent).expect("open");
            rig.until(is_there).await;
            stream.send_reset(Reason::CANCEL);
            rig.ended(2).await;
        }
    }
    rig.ended(2).await;
    let ends: Vec<_> =
        rig.told.borrow().iter().filter(|line| line.contains(" end ")).cloned().collect();
    // As Envoy tells a stream that was reset from a connection that went away.
    let (flag, detail) = match down {
        Side::H1 => ("DC", "downstream_remote_disconnect"),
        Side::H2 => ("DR", "http2.remote_reset"),
    };
    let expected = ["o", "a"].map(|name| format!("{name} end {flag}"));
    assert_eq!(ends, expected, "{down:?} {up:?} at {there:?}");
    let whole = rig.backend.seen.borrow().iter().all(|message| message.whole);
    assert!(whole || !sent, "a request that broke off was not ended");
    let log = rig.log();
    assert_eq!(log.len(), 1);
    let expected = format!("{status} {flag} {detail}");
    assert!(log[0].starts_with(&expected), "{down:?} {up:?} at {there:?}: {log:?}");
}

#[tokio::test]
async fn a_caller_may_leave_in_any_phase() {
    locally(async {
        for down in [Side::H1, Side::H2] {
            for up in [Side::H1, Side::H2] {
                for phase in phases() {
                    leave(down, up, phase).await;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_end_before_the_whole_request_is_no_end_of_it() {
    locally(async {
        for wish in [Wish::Buffer(100), Wish::Transform, Wish::Pass] {
            let rig =
                Rig::new((Side::H1, Side::H1), vec![Play { request_body: wish, ..play("a") }]);
            let rig = rig.await;
            let mut wire = rig.connect().await;
            write(&mut wire, "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nabc").await;
            drop(wire);
            rig.ended(1).await;
            let seen = rig.backend.seen.borrow();
            assert!(seen.iter().all(|message| !message.whole), "{wish:?}: {seen:?}");
            drop(seen);
            assert!(rig.log()[0].starts_with("0 DC downstream_remote_disconnect"));
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_waits_longer_than_the_stream_may() {
    locally(async {
        let idle = "stream_idle_timeout: 0.3s";
        let request = "request_timeout: 0.3s";
        let waits = || Play { request: Act::Wait(FOR_EVER), ..play("a") };
        let holds = || Play { request_body: Wish::Buffer(100), ..play("a") };
        let answers_late = Play { response: Act::Wait(FOR_EVER), ..play("a") };
        let holds_answer = Play { response_body: Wish::Buffer(100), ..play("a") };
        let replies_late = Play { response: Act::Wait(FOR_EVER), ..play("a") };
        for (manager, a, sent, expected) in [
            // Nobody has looked yet whether the rest of it is there.
            (idle, waits(), true, "408 SI stream_idle_timeout"),
            (idle, holds(), false, "408 SI stream_idle_timeout"),
            (request, holds(), false, "408 - request_overall_timeout"),
            (idle, answers_late, true, "504 SI stream_idle_timeout"),
            (idle, holds_answer, true, "504 SI stream_idle_timeout"),
            (idle, replies_late, false, "0 SI stream_idle_timeout"),
        ] {
            let b = match sent || expected.starts_with('4') {
                true => play("b"),
                false => Play { request: Act::Reply(403), ..play("b") },
            };
            let parts = Parts::new((Side::H1, Side::H1), vec![play("o"), a, b]);
            let rig = Rig::of(Parts { manager, ..parts }).await;
            rig.backend.answers.borrow_mut().push_back(Answer::Hang);
            let mut wire = rig.connect().await;
            let post = "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nabc";
            write(&mut wire, post).await;
            if sent {
                write(&mut wire, "d").await;
            }
            let answer = read_h1(&mut wire).await;
            let status = answer.map_or("0".to_owned(), |answer| answer.start);
            assert_eq!(status, expected[..status.len()], "{expected}");
            rig.ended(2).await;
            let told = rig.told.borrow().join("\n");
            if status != "0" {
                assert!(told.contains(&format!("o response {status}")), "{expected}: {told}");
            }
            let log = rig.log();
            assert!(log[0].starts_with(expected), "{expected}: {log:?}");
        }
    })
    .await;
}
