//! Bodies that are held or changed, in both directions.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::chain::play;
use super::message::{chunked, read_h1, send_h2, write};
use super::rig::{Answer, FLOOD, FLOOD_BYTES, Parts, Rig, SIDES, Side, locally};
use crate::http::filter::tests::probe::{Act, Play, Wish};

const RETRY: &str = ", retry_policy: {retry_on: 5xx, num_retries: 1}";

fn wishes(request_body: Wish, response_body: Wish) -> Play {
    Play { request_body, response_body, ..play("a") }
}

#[tokio::test]
async fn held_bodies_are_whole_before_the_filter_sees_the_head() {
    locally(async {
        for (down, up) in SIDES {
            let plays = vec![wishes(Wish::Buffer(100), Wish::Buffer(100)), play("b")];
            let rig = Rig::new((down, up), plays).await;
            let answer = rig.post(down, "/x", &["abc", "de"]).await;
            assert_eq!((&*answer.text(), answer.trailer("x-t")), ("hello world", Some("end")));
            rig.ended(2).await;
            let told = rig.told.borrow().join("\n");
            assert!(told.contains("a request /x holding 5"), "{down:?} {up:?}: {told}");
            assert!(told.contains("a response 200 holding 11"), "{told}");
            let seen = rig.backend.seen.borrow();
            assert_eq!((&*seen[0].text(), seen[0].trailer("x-t")), ("abcde", Some("end")));
            drop(seen);
            assert_eq!(rig.log(), ["200 - via_upstream 5 11 end"]);
        }
    })
    .await;
}

#[tokio::test]
async fn changed_bodies_keep_their_trailers() {
    locally(async {
        for (down, up) in SIDES {
            let plays = vec![wishes(Wish::Transform, Wish::Transform)];
            let rig = Rig::new((down, up), plays).await;
            let answer = rig.post(down, "/x", &["abc", "de"]).await;
            let text = answer.text();
            assert_eq!(
                (&*text, answer.trailer("x-t")),
                ("<hello hello ><worldworld>", Some("end"))
            );
            assert_eq!(answer.header("content-length"), None);
            let sent = rig.backend.seen.borrow()[0].clone();
            assert_eq!((&*sent.text(), sent.trailer("x-t")), ("<abcabc><dede>", Some("end")));
            rig.ended(1).await;
            assert_eq!(rig.log(), ["200 - via_upstream 5 26 end"], "{down:?} {up:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_may_be_held_behind_a_change_and_changed_behind_a_hold() {
    locally(async {
        let plays = vec![
            wishes(Wish::Transform, Wish::Buffer(100)),
            Play { request_body: Wish::Buffer(100), response_body: Wish::Transform, ..play("b") },
        ];
        let rig = Rig::new((Side::H1, Side::H1), plays).await;
        let answer = rig.post(Side::H1, "/x", &["abc"]).await;
        assert_eq!(answer.text(), "<hello hello ><worldworld>");
        let told = rig.told.borrow().join("\n");
        assert!(told.contains("b request /x holding 8"), "{told}");
        assert!(told.contains("a response 200 holding 26"), "{told}");
        assert_eq!(rig.backend.seen.borrow()[0].text(), "<abcabc>");
        rig.ended(2).await;
        assert_eq!(rig.log(), ["200 - via_upstream 3 26 end"]);
    })
    .await;
}

/// A filter that holds and replaces, changes, or passes, and what comes of `text`.
fn lengths(text: &str) -> [(Play, String, Option<String>); 3] {
    let (held, changed) = (Wish::Buffer(10), Wish::Transform);
    let (request, response) = (Act::Replace("longer text"), Act::Replace("longer text"));
    [
        (Play { request, response, ..wishes(held, held) }, "longer text".into(), Some("11".into())),
        (wishes(changed, changed), format!("<{text}{text}>"), None),
        (wishes(Wish::Pass, Wish::Pass), text.into(), Some(text.len().to_string())),
    ]
}

#[tokio::test]
async fn lengths_of_requests_follow_what_a_filter_does() {
    locally(async {
        for up in [Side::H1, Side::H2] {
            for (a, text, length) in lengths("abc") {
                let a = Play { response_body: Wish::Pass, response: Act::Pass, ..a };
                let rig = Rig::new((Side::H1, up), vec![a]).await;
                let mut wire = rig.connect().await;
                let post = "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc";
                write(&mut wire, post).await;
                assert_eq!(read_h1(&mut wire).await.expect("an answer").start, "200", "{up:?}");
                let seen = rig.backend.seen.borrow();
                assert_eq!(seen[0].text(), text);
                assert_eq!(seen[0].header("content-length"), length.as_deref(), "{up:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn lengths_of_answers_follow_what_a_filter_does() {
    locally(async {
        for down in [Side::H1, Side::H2] {
            for (a, text, length) in lengths("hi") {
                let a = Play { request_body: Wish::Pass, request: Act::Pass, ..a };
                let rig = Rig::new((down, Side::H1), vec![a]).await;
                let answer = "HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\nhi";
                rig.backend.answers.borrow_mut().push_back(Answer::Raw(answer));
                let got = rig.post(down, "/x", &["abc"]).await;
                assert_eq!((got.text(), got.whole), (text, true), "{down:?}");
                assert_eq!(got.header("content-length"), length.as_deref(), "{down:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn too_large_a_request_is_413() {
    locally(async {
        for down in [Side::H1, Side::H2] {
            let rig = Rig::new((down, Side::H1), vec![wishes(Wish::Buffer(4), Wish::Pass)]).await;
            let answer = rig.post(down, "/x", &["ab", "cd"]).await;
            assert_eq!(answer.start, "200", "{down:?}");
            let answer = rig.post(down, "/x", &["ab", "cde"]).await;
            assert_eq!((&*answer.start, &*answer.text()), ("413", "Payload Too Large"));
            assert_eq!(rig.backend.seen.borrow().len(), 1);
            rig.ended(2).await;
            let log = rig.log();
            assert_eq!(log[1], "413 - request_payload_too_large 5 17 -");
        }
    })
    .await;
}

#[tokio::test]
async fn too_large_an_answer_is_500_for_those_outside() {
    locally(async {
        for (down, up) in SIDES {
            let plays = vec![play("o"), wishes(Wish::Pass, Wish::Buffer(10))];
            let rig = Rig::new((down, up), plays).await;
            let answer = rig.post(down, "/x", &["abc"]).await;
            assert_eq!((&*answer.start, &*answer.text()), ("500", "Internal Server Error"));
            rig.ended(2).await;
            assert!(rig.told.borrow().contains(&"o response 500 holding 21".to_owned()));
            assert!(!rig.told.borrow().join("\n").contains("a response"), "it never saw one");
            assert_eq!(rig.log(), ["500 - response_payload_too_large 3 21 -"]);
        }
    })
    .await;
}

#[tokio::test]
async fn the_text_of_a_reply_passes_the_filters_outside() {
    locally(async {
        let b = Play { request: Act::Reply(403), ..play("b") };
        let plays = vec![wishes(Wish::Pass, Wish::Transform), b];
        let rig = Rig::new((Side::H1, Side::H1), plays).await;
        let answer = rig.post(Side::H1, "/x", &["abc"]).await;
        assert_eq!((&*answer.start, &*answer.text()), ("403", "<bb>"));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_while_it_is_held_is_no_answer() {
    locally(async {
        for (down, up) in SIDES {
            let plays = vec![play("o"), wishes(Wish::Pass, Wish::Buffer(100))];
            let rig = Rig::new((down, up), plays).await;
            rig.backend.answers.borrow_mut().push_back(Answer::Cut);
            let answer = rig.post(down, "/x", &["abc"]).await;
            assert_eq!((&*answer.start, answer.whole), ("503", true), "{down:?} {up:?}");
            assert!(!answer.text().contains("cut"));
            rig.ended(2).await;
            assert!(rig.told.borrow().join("\n").contains("o response 503"));
            let flag = if up == Side::H1 { "UC" } else { "UR" };
            let log = rig.log();
            assert!(log[0].starts_with(&format!("503 {flag} upstream_reset_before")), "{log:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_changed_answer_that_breaks_never_ends() {
    locally(async {
        for (down, up) in SIDES {
            let rig = Rig::new((down, up), vec![wishes(Wish::Pass, Wish::Transform)]).await;
            rig.backend.answers.borrow_mut().push_back(Answer::Cut);
            let answer = rig.post(down, "/x", &["abc"]).await;
            assert_eq!((&*answer.text(), answer.whole), ("<cutcut>", false), "{down:?} {up:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_held_request_is_sent_again_whatever_its_size() {
    locally(async {
        let large: &'static str = "x".repeat(100_000).leak();
        for (down, up) in SIDES {
            for (wish, attempts, status) in
                [(Wish::Buffer(200_000), 2, "200"), (Wish::Transform, 1, "503")]
            {
                let plays = vec![wishes(wish, Wish::Pass)];
                let rig = Rig::of(Parts { action: RETRY, ..Parts::new((down, up), plays) }).await;
                rig.backend.answers.borrow_mut().push_back(Answer::Pieces("503", vec!["no"]));
                let answer = rig.post(down, "/x", &[large]).await;
                assert_eq!(answer.start, status, "{down:?} {up:?} {wish:?}");
                let seen = rig.backend.seen.borrow();
                assert_eq!(seen.len(), attempts);
                let same = |message: &super::message::Message| message.body == seen[0].body;
                assert!(seen.iter().all(same), "{down:?} {up:?}");
                assert!(seen.iter().all(|message| message.trailer("x-t") == Some("end")));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_changed_request_is_sent_again_as_it_was_changed() {
    locally(async {
        for (down, up) in SIDES {
            let plays = vec![wishes(Wish::Transform, Wish::Pass)];
            let rig = Rig::of(Parts { action: RETRY, ..Parts::new((down, up), plays) }).await;
            rig.backend.answers.borrow_mut().push_back(Answer::Pieces("503", vec!["no"]));
            assert_eq!(rig.post(down, "/x", &["abc"]).await.start, "200");
            let seen = rig.backend.seen.borrow();
            let texts: Vec<_> = seen.iter().map(super::message::Message::text).collect();
            assert_eq!(texts, ["<abcabc>", "<abcabc>"]);
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_takes_the_body_says_continue() {
    locally(async {
        let head = "POST /x HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n";
        for manager in ["", "proxy_100_continue: true"] {
            let plays = vec![wishes(Wish::Buffer(10), Wish::Pass)];
            let parts = Parts::new((Side::H1, Side::H1), plays);
            let rig = Rig::of(Parts { manager, ..parts }).await;
            let mut wire = rig.connect().await;
            write(&mut wire, &format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
            assert_eq!(read_h1(&mut wire).await.expect("an interim answer").start, "100");
            write(&mut wire, &chunked(&["abc"])).await;
            assert_eq!(read_h1(&mut wire).await.expect("an answer").start, "200");
            let seen = rig.backend.seen.borrow();
            assert_eq!((&*seen[0].text(), seen[0].header("expect")), ("abc", None), "{manager}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_body_is_not_asked_for() {
    locally(async {
        let refusing = Play { request: Act::Reply(403), ..play("a") };
        for (a, status) in [(refusing, "403"), (wishes(Wish::Buffer(10), Wish::Pass), "413")] {
            let rig = Rig::new((Side::H1, Side::H1), vec![a]).await;
            let mut wire = rig.connect().await;
            let head = "POST /x HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n";
            write(&mut wire, &format!("{head}content-length: 11\r\n\r\n")).await;
            assert_eq!(read_h1(&mut wire).await.expect("an answer").start, status);
        }
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_is_no_body() {
    locally(async {
        let plays = vec![wishes(Wish::Buffer(2), Wish::Transform), {
            Play { request_body: Wish::Transform, response_body: Wish::Buffer(2), ..play("b") }
        }];
        let parts = Parts::new((Side::H1, Side::H1), plays);
        let manager = "upgrade_configs: [{upgrade_type: websocket}]";
        let rig = Rig::of(Parts { manager, ..parts }).await;
        let agreed = "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        rig.backend.answers.borrow_mut().push_back(Answer::Raw(agreed));
        let mut wire = rig.connect().await;
        let asks = "connection: upgrade\r\nupgrade: websocket\r\n\r\n";
        write(&mut wire, &format!("GET /x HTTP/1.1\r\nhost: h\r\n{asks}")).await;
        assert_eq!(read_h1(&mut wire).await.expect("an agreement").start, "101");
        write(&mut wire, "ping-pong").await;
        let mut echo = [0; 9];
        wire.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(&echo, b"ping-pong");
        drop(wire);
        rig.ended(2).await;
        let told = rig.told.borrow().join("\n");
        assert!(told.contains("a response 101") && !told.contains("holding"), "{told}");
    })
    .await;
}

/// Waits until the backend's flood stands still.
async fn dammed(rig: &Rig) -> usize {
    let (mut last, mut still) = (0, 0);
    while still < 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = rig.backend.flooded.get();
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
    }
    last
}

#[tokio::test]
async fn whoever_reads_slowly_slows_the_sender_also_through_a_change() {
    locally(async {
        for down in [Side::H1, Side::H2] {
            let rig = Rig::new((down, Side::H1), vec![wishes(Wish::Pass, Wish::Transform)]).await;
            rig.backend.answers.borrow_mut().push_back(Answer::Flood);
            // Sockets hold some megabytes on their own.
            let dam = FLOOD * 3 / 4;
            match down {
                Side::H1 => {
                    let mut wire = rig.connect().await;
                    write(&mut wire, "GET /x HTTP/1.1\r\nhost: h\r\n\r\n").await;
                    let held = dammed(&rig).await;
                    assert!(held < dam);
                    let mut piece = vec![0; FLOOD_BYTES];
                    while rig.backend.flooded.get() == held {
                        assert!(wire.read(&mut piece).await.expect("open") > 0, "more is to come");
                    }
                }
                Side::H2 => {
                    let (answer, stream, _connection) = rig.open_h2("/x").await;
                    send_h2(stream, &[]);
                    let mut body = answer.await.expect("an answer").into_body();
                    let held = dammed(&rig).await;
                    assert!(held < dam);
                    while rig.backend.flooded.get() == held {
                        let data = body.data().await.expect("more is to come").expect("whole");
                        body.flow_control().release_capacity(data.len()).expect("open");
                    }
                }
            }
        }
    })
    .await;
}
