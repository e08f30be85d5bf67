//! The life of a connection: who waits for whom, and what becomes of those who do not hurry.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tulle_lab::backend::http1::{Answer, Backend, Step};
use tulle_lab::client::http1::{Client, Fate};
use tulle_lab::client::tcp::Close;
use tulle_lab::deadline::{SOON, until, within};
use tulle_lab::message::End;
use tulle_lab::oracle::Stage;

use super::{row, stage};

const HEAD: &str = "POST /p HTTP/1.1\r\nhost: h\r\n";

async fn client(stage: &Stage, listener: &str) -> Client {
    Client::connect(stage.listener(listener).unwrap()).await.unwrap()
}

fn upstream(stage: &Stage) -> &Backend {
    stage.http1("a").unwrap()
}

fn send(bytes: &str) -> Step {
    Step::Send(bytes.as_bytes().to_vec())
}

/// What was asked in advance is answered in order; what does not fit stays with its sender.
#[tokio::test]
async fn one_request_ahead_and_the_rest_stays_in_the_kernel() {
    let stage = stage().await;
    let before = stage.resident_kib().unwrap();
    upstream(&stage).script([Answer::early([Step::Wait(Duration::from_secs(3))])]);
    let mut ahead = client(&stage, "http").await;
    let request = format!("GET /ahead HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "y".repeat(900));
    let wave = request.repeat(64);
    let mut taken = 0;
    // Whatever the kernel's buffers hold, this is more.
    while taken < 64 << 20 {
        match timeout(Duration::from_millis(500), ahead.send(wave.as_bytes())).await {
            Ok(()) => taken += wave.len(),
            Err(_) => break,
        }
    }
    assert!(taken < 64 << 20, "everything was read ahead");
    let grown = stage.resident_kib().unwrap().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB for {taken} bytes ahead");
    assert_eq!(upstream(&stage).so_far().len(), 0, "one is under way and none is answered");
    assert_eq!(row::stranger(&stage).await, "200");

    let mut two = client(&stage, "http").await;
    upstream(&stage).script([Answer::status(200, "first"), Answer::status(200, "second")]);
    two.send(b"GET /1 HTTP/1.1\r\nhost: h\r\n\r\nGET /2 HTTP/1.1\r\nhost: h\r\n\r\n").await;
    for expected in ["first", "second"] {
        assert_eq!(two.response("GET").await.unwrap().response.text(), expected);
    }
}

/// The answer to a refused request arrives, and who still writes is not reset meanwhile.
#[tokio::test]
async fn lingering_close_after_an_error() {
    let stage = stage().await;
    let address = stage.listener("http").unwrap();
    let mut writing = TcpStream::connect(address).await.unwrap();
    let head = format!("{HEAD}content-length: +1\r\n\r\n");
    writing.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Our end is said at once; theirs is waited for.
    within("the answer", SOON, writing.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
    for _ in 0..10 {
        writing.write_all(&[b'z'; 16 * 1024]).await.expect("no reset within the time to linger");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(writing);
    assert_eq!(upstream(&stage).so_far().len(), 0);
    // The same with much that nobody has read when the answer is sent.
    let mut client = client(&stage, "http").await;
    client.send(format!("{head}{}", "z".repeat(200 * 1024)).as_bytes()).await;
    let answer = client.response("POST").await.unwrap().response;
    assert_eq!((answer.status(), &answer.end), (400, &End::Complete));
    assert_eq!(client.read_to_end().await.unwrap().1, Close::End);
}

#[tokio::test]
async fn early_answer_while_the_body_still_comes() {
    let stage = stage().await;
    let answer = "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig";
    upstream(&stage).script([Answer::early([send(answer), Step::AwaitEnd])]);
    let mut early = client(&stage, "http").await;
    early.send(format!("{HEAD}content-length: 1000000\r\n\r\nabc").as_bytes()).await;
    let answered = early.response("POST").await.unwrap().response;
    assert_eq!((answered.status(), answered.text().as_str()), (413, "big"));
    // What of the body is still to come could not be told from a next request.
    assert_eq!(early.read_to_end().await.unwrap().1, Close::End);
    let seen = upstream(&stage).received(1).await.unwrap();
    assert_ne!(seen[0].request.end, End::Complete);
    assert_eq!(row::stranger(&stage).await, "200");
}

#[tokio::test]
async fn expectation_with_a_retry() {
    let stage = stage().await;
    upstream(&stage).script([Answer::status(503, "no"), Answer::status(200, "yes")]);
    let mut expecting = client(&stage, "http").await;
    expecting
        .send(
            b"POST /retried HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
              content-length: 4\r\n\r\n",
        )
        .await;
    assert_eq!(expecting.interim().await.unwrap().status(), 100);
    expecting.send(b"body").await;
    let answered = expecting.response("POST").await.unwrap();
    assert!(answered.interim.is_empty(), "asked for once only");
    assert_eq!(answered.response.text(), "yes");
    let seen = upstream(&stage).received(2).await.unwrap();
    assert!(seen.iter().all(|received| received.request.text() == "body"), "{seen:?}");
    assert_eq!(expecting.fate("h").await.unwrap(), Fate::Kept);
}

#[tokio::test]
async fn expectation_that_is_refused_at_once() {
    let stage = stage().await;
    let mut expecting = client(&stage, "edge").await;
    expecting
        .send(
            b"POST /a%2Fb HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
              content-length: 4\r\n\r\n",
        )
        .await;
    let answered = expecting.response("POST").await.unwrap();
    assert!(answered.interim.is_empty());
    assert_eq!(answered.response.status(), 400);
    // A body may follow or not: nobody can tell, so nothing more is read.
    assert_eq!(expecting.read_to_end().await.unwrap().1, Close::End);
    assert_eq!(upstream(&stage).so_far().len(), 0);
}

#[tokio::test]
async fn expectation_of_http_10_is_none() {
    let stage = stage().await;
    let mut old = client(&stage, "old").await;
    let head = "POST /p HTTP/1.0\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    old.send(format!("{head}hi").as_bytes()).await;
    let answered = old.response("POST").await.unwrap();
    assert!(answered.interim.is_empty());
    assert_eq!((answered.response.status(), answered.response.text().as_str()), (200, "ok"));
    let seen = upstream(&stage).received(1).await.unwrap();
    assert_eq!(seen[0].request.text(), "hi");
}

#[tokio::test]
async fn half_closed_client_still_gets_its_answer() {
    let stage = stage().await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
    upstream(&stage)
        .script([Answer::steps([Step::Wait(Duration::from_millis(300)), send(answer)])]);
    let mut half = client(&stage, "http").await;
    half.send(format!("{HEAD}content-length: 2\r\n\r\nhi").as_bytes()).await;
    half.half_close().await;
    let answered = half.response("POST").await.unwrap().response;
    assert_eq!((answered.text().as_str(), &answered.end), ("late", &End::Complete));
    assert_eq!(half.read_to_end().await.unwrap().1, Close::End);
}

#[tokio::test]
async fn slow_head_is_answered_408() {
    let stage = stage().await;
    let mut slow = client(&stage, "hurry").await;
    slow.send(b"GET / HTTP/1.1\r\nhost: h\r\nx-").await;
    let answered = slow.response("GET").await.unwrap().response;
    assert_eq!(answered.status(), 408);
    assert_eq!(slow.read_to_end().await.unwrap().1, Close::End);
    assert_eq!(upstream(&stage).so_far().len(), 0);
}

/// A head that grows byte by byte is no head in time, however busy its sender looks.
#[tokio::test]
async fn trickled_head_is_answered_408() {
    let stage = stage().await;
    let mut slow = client(&stage, "hurry").await;
    slow.send(b"GET / HTTP/1.1\r\nhost: h\r\nx: ").await;
    let start = Instant::now();
    let answered = loop {
        slow.send(b"y").await;
        match timeout(Duration::from_millis(50), slow.response("GET")).await {
            Ok(answered) => break answered.unwrap().response,
            Err(_) => assert!(start.elapsed() < SOON, "it is waited for without end"),
        }
    };
    assert_eq!(answered.status(), 408);
}

#[tokio::test]
async fn slow_body_is_answered_408() {
    let stage = stage().await;
    let mut slow = client(&stage, "hurry").await;
    slow.send(format!("{HEAD}content-length: 10\r\n\r\nabc").as_bytes()).await;
    let answered = slow.response("POST").await.unwrap().response;
    assert_eq!(answered.status(), 408);
    assert_eq!(slow.read_to_end().await.unwrap().1, Close::End);
    let seen = upstream(&stage).received(1).await.unwrap();
    assert_ne!(seen[0].request.end, End::Complete, "a cut is no end");
}

/// Progress keeps a stream alive, but not beyond the time of the whole request.
#[tokio::test]
async fn trickled_body_is_answered_408() {
    let stage = stage().await;
    let mut slow = client(&stage, "hurry").await;
    slow.send(format!("{HEAD}content-length: 1000\r\n\r\n").as_bytes()).await;
    let start = Instant::now();
    let answered = loop {
        slow.send(b"y").await;
        match timeout(Duration::from_millis(100), slow.response("POST")).await {
            Ok(answered) => break answered.unwrap().response,
            Err(_) => assert!(start.elapsed() < SOON, "it is waited for without end"),
        }
    };
    assert_eq!(answered.status(), 408);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn slow_reader_holds_no_memory_and_is_given_up() {
    let stage = stage().await;
    let body = "z".repeat(32 << 20);
    upstream(&stage).script((0..4).map(|_| Answer::status(200, &body)));
    let before = stage.resident_kib().unwrap();
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = client(&stage, "held").await;
        reader.send(b"GET /large HTTP/1.1\r\nhost: h\r\n\r\n").await;
        readers.push(reader);
    }
    // The upstream is let go of when the reader has made no progress for the idle time.
    let given_up = until("the end at the upstream", 2 * SOON, || {
        let done = upstream(&stage).so_far().len() == 4;
        async move { done.then_some(()) }
    });
    given_up.await.unwrap();
    let grown = stage.resident_kib().unwrap().saturating_sub(before);
    assert!(grown < 8192, "{grown} KiB for four who do not read");
    for mut reader in readers {
        let answer = reader.response("GET").await.unwrap().response;
        assert_ne!(answer.end, End::Complete, "what was given up is no whole answer");
    }
    assert_eq!(row::stranger(&stage).await, "200");
}

/// The work is the same however it arrives.
#[tokio::test]
async fn one_byte_per_packet() {
    let stage = stage().await;
    let mut slow = client(&stage, "http").await;
    let fields = "x-field: 0123456789\r\n".repeat(90);
    let chunks = "3;ext=1\r\nabc\r\n".repeat(100);
    let head = format!("POST /slow HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n{fields}");
    let request = format!("{head}\r\n{chunks}0\r\nx-sum: 1\r\n\r\n");
    for byte in request.as_bytes() {
        slow.send(&[*byte]).await;
    }
    assert_eq!(slow.response("POST").await.unwrap().response.status(), 200);
    let seen = upstream(&stage).received(1).await.unwrap();
    assert_eq!(seen[0].request.text(), "abc".repeat(100));
    assert_eq!(seen[0].request.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    assert_eq!(slow.fate("h").await.unwrap(), Fate::Kept);
}

/// A connection to an upstream that said more than it was asked is not used again.
#[tokio::test]
async fn bytes_after_an_answer_end_the_connection() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
    let both = format!("{ok}{forged}");
    let at_once = Answer::steps([send(&both), Step::AwaitEnd]);
    let later = Answer::steps([send(ok), Step::Wait(Duration::from_millis(100)), send(forged)]);
    for (answer, wait) in [(at_once, 0), (later, 400)] {
        let stage = stage().await;
        upstream(&stage).script([answer]);
        let mut asking = client(&stage, "http").await;
        assert_eq!(asking.get("h", "/1").await.unwrap().text(), "ok");
        // The bytes come while nobody waits for any.
        tokio::time::sleep(Duration::from_millis(wait)).await;
        assert_eq!(asking.get("h", "/2").await.unwrap().text(), "ok");
        let seen = upstream(&stage).received(2).await.unwrap();
        let connection = |target: &str| {
            let of = |received: &&tulle_lab::backend::http1::Received| {
                received.request.target() == target
            };
            seen.iter().find(of).unwrap().connection
        };
        assert_ne!(connection("/1"), connection("/2"));
    }
}

/// An upgrade that was agreed to is a tunnel; one that was not is followed by nothing.
#[tokio::test]
async fn bytes_after_a_refused_upgrade_are_no_request() {
    let stage = stage().await;
    upstream(&stage).script([Answer::status(200, "no")]);
    let mut asking = client(&stage, "http").await;
    asking
        .send(
            b"GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\
              GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n",
        )
        .await;
    assert_eq!(asking.response("GET").await.unwrap().response.text(), "no");
    assert_eq!(asking.read_to_end().await.unwrap().1, Close::End);
    assert_eq!(row::stranger(&stage).await, "200");
    let seen = upstream(&stage).received(2).await.unwrap();
    assert!(seen.iter().all(|received| received.request.target() != "/smuggled"));
}

/// Limits are checked before anything grows: a hundred heads without an end cost what their
/// limit says, and are refused there.
#[tokio::test]
async fn heads_without_end_cost_no_memory() {
    let stage = stage().await;
    let before = stage.resident_kib().unwrap();
    let mut endless = Vec::new();
    for number in 0..100 {
        let mut client = client(&stage, "http").await;
        let line = if number % 2 == 0 { "x: y\r\n".to_owned() } else { "y".repeat(1000) };
        client.send(b"GET / HTTP/1.1\r\nhost: h\r\nx: ").await;
        let much = line.repeat(1 << 20 >> line.len().ilog2());
        // It may be refused before everything is written.
        let _ = timeout(Duration::from_secs(1), client.send(much.as_bytes())).await;
        endless.push(client);
    }
    let grown = stage.resident_kib().unwrap().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB for a hundred heads");
    for mut client in endless {
        let answer = client.response("GET").await.unwrap().response;
        // Who wrote on for more than is read after a refusal sees a reset.
        assert!(matches!(answer.status(), 431 | 0), "{answer:?}");
    }
    assert_eq!(row::stranger(&stage).await, "200");
}
