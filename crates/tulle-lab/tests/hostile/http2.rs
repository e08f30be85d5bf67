//! HTTP/2 as no library would send it: single malformed requests, each with its verdict.

use tulle_lab::backend::http1::{Answer, Step};
use tulle_lab::backend::http2::Answer as Answer2;
use tulle_lab::client::frames::{
    END_HEADERS, Frames, block, data, frame, headers, kind, request, string,
};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::SOON;
use tulle_lab::message::End;
use tulle_lab::oracle::Stage;

/// What is sent on stream 1 after the preface, and what becomes of stream and connection.
#[derive(Clone)]
pub struct Case {
    pub item: &'static str,
    sent: Vec<u8>,
    verdict: &'static str,
    upstream: Vec<&'static str>,
}

fn case(item: &'static str, sent: impl Into<Vec<u8>>, verdict: &'static str) -> Case {
    Case { item, sent: sent.into(), verdict, upstream: Vec::new() }
}

fn get(item: &'static str, change: impl FnOnce(&mut Fields), verdict: &'static str) -> Case {
    let mut fields = request("GET", "/g");
    change(&mut fields);
    case(item, headers(1, &fields, true), verdict)
}

fn post(item: &'static str, fields: &[(&'static str, &[u8])], frames: &[Vec<u8>]) -> Case {
    let all = [&request("POST", "/p"), fields].concat();
    case(item, [headers(1, &all, false), frames.concat()].concat(), "reset 1 kept")
}

type Fields = Vec<(&'static str, &'static [u8])>;

impl Case {
    fn is(mut self, verdict: &'static str) -> Self {
        self.verdict = verdict;
        self
    }

    fn saw(mut self, request: &'static str) -> Self {
        self.upstream.push(request);
        self
    }

    pub async fn play(&self, stage: &Stage) -> Result<(), String> {
        let upstream = stage.http1("a").unwrap();
        upstream.script([]);
        let mut frames = Frames::connect(stage.listener("http").unwrap(), &[]).await.unwrap();
        frames.send(&self.sent).await;
        let verdict = frames.verdict(1).await;
        let stranger = super::row::stranger(stage).await;
        let wanted = [self.upstream.as_slice(), &["GET /stranger; host: h"]].concat();
        let seen = upstream.received(wanted.len()).await.unwrap_or_else(|_| upstream.so_far());
        let mut seen: Vec<String> = seen.iter().map(super::row::describe).collect();
        seen.sort_by_key(|line| line.contains("/stranger"));
        let alike = seen.len() == wanted.len()
            && seen.iter().zip(&wanted).all(|(seen, wanted)| super::row::is_like(seen, wanted));
        if verdict == self.verdict && alike && stranger == "200" {
            return Ok(());
        }
        Err(format!(
            "{}: {}\n  verdict  {verdict}\n  expected {}\n  upstream {seen:#?}\n  expected \
             {wanted:#?}\n  stranger {stranger}\n",
            self.item,
            self.sent.escape_ascii().to_string().chars().take(200).collect::<String>(),
            self.verdict
        ))
    }
}

pub fn cases() -> Vec<Case> {
    [lists(), authorities(), names(), targets(), bodies(), kept()].concat()
}

fn lists() -> Vec<Case> {
    let item = "h2: header list of more than 60 KiB";
    let value = vec![b'y'; 15_000];
    let mut fields = request("GET", "/large");
    let large: Vec<(&str, &[u8])> = vec![("x-a", &value); 5];
    fields.extend(large);
    let block = block(&fields);
    let mut pieces = block.chunks(16_000);
    let mut sent = frame(kind::HEADERS, 1, 1, pieces.next().unwrap_or_default());
    let rest: Vec<_> = pieces.collect();
    for (number, piece) in rest.iter().enumerate() {
        let flags = if number + 1 == rest.len() { END_HEADERS } else { 0 };
        sent.extend(frame(kind::CONTINUATION, flags, 1, piece));
    }
    let many = (0..101).map(|_| ("x-a", b"1".as_slice()));
    let mut fields = request("GET", "/many");
    fields.extend(many);
    vec![
        case(item, sent, "431 kept"),
        case("h2: more than 100 fields", headers(1, &fields, true), "431 kept"),
        case("h2: HPACK bomb", bomb(), "open goaway 11"),
        case("h2: HPACK bomb", frame(kind::HEADERS, 5, 1, &[0xff; 64]), "open goaway 1"),
        case("h2: HPACK bomb", frame(kind::HEADERS, 5, 1, &[0xbe]), "open goaway 1"),
    ]
}

/// One entry of almost the whole table, named again with one byte each.
fn bomb() -> Vec<u8> {
    let mut block = block(&request("GET", "/bomb"));
    block.push(0x40);
    string(b"x-b", &mut block);
    string(&[b'z'; 3900], &mut block);
    block.extend([0xbe; 10_000]);
    frame(kind::HEADERS, 5, 1, &block)
}

fn authorities() -> Vec<Case> {
    let item = "h2: :authority differs from host";
    vec![
        get(item, |fields| fields.push(("host", b"other")), "400 kept"),
        get(item, |fields| fields.extend([("host", b"h".as_slice()), ("host", b"h")]), "400 kept"),
        get(item, |fields| fields.push(("host", b"H")), "200 kept").saw("GET /g; host: h"),
        get(item, |fields| fields[2] = (":authority", b""), "reset 1 kept"),
        get(item, |fields| fields[2] = (":authority", b"user@h"), "400 kept"),
        get(item, |fields| fields[2] = (":authority", b"a b"), "reset 1 kept"),
    ]
}

fn names() -> Vec<Case> {
    let upper = "h2: upper-case names";
    let connection = "h2: connection headers";
    let with = |item, name: &'static str, value: &'static [u8]| {
        get(item, |fields| fields.push((name, value)), "reset 1 kept")
    };
    // Stricter than RFC 9113 §8.1.1 asks for: such a peer does not encode as one must.
    let goes = |name: &'static str, value: &'static [u8]| {
        get(upper, |fields| fields.push((name, value)), "open goaway 1")
    };
    vec![
        goes("X-Upper", b"1"),
        goes("x a", b"1"),
        goes("", b"1"),
        goes("x\r\nevil", b"1"),
        goes("x-a", b"1\r\nevil: 2"),
        goes("x-a", b"1\0"),
        with(connection, "connection", b"close"),
        with(connection, "keep-alive", b"timeout=5"),
        with(connection, "proxy-connection", b"keep-alive"),
        with(connection, "transfer-encoding", b"chunked"),
        with(connection, "upgrade", b"websocket"),
        with(connection, "te", b"gzip"),
        get(connection, |fields| fields.push(("te", b"trailers")), "200 kept")
            .saw("GET /g; host: h; te: trailers"),
    ]
}

fn targets() -> Vec<Case> {
    let path = "h2: :path without slash";
    let connect = "h2: CONNECT without :protocol";
    let set = |item, value: &'static [u8], verdict| {
        get(item, move |fields| fields[3] = (":path", value), verdict)
    };
    let plain: Fields = vec![(":method", b"CONNECT"), (":authority", b"h:80")];
    let mut with_path = request("CONNECT", "/x");
    with_path.truncate(4);
    let extended: Fields = vec![
        (":method", b"CONNECT"),
        (":protocol", b"websocket"),
        (":scheme", b"http"),
        (":authority", b"h"),
        (":path", b"/ws"),
    ];
    vec![
        set(path, b"g", "reset 1 kept"),
        set(path, b"", "reset 1 kept"),
        set(path, b"*", "400 kept"),
        set(path, b"http://h/g", "reset 1 kept"),
        set(path, b"/a b", "reset 1 kept"),
        set(path, b"/a\0", "reset 1 kept"),
        set(path, b"/a%00", "400 kept"),
        // The codec cuts a fragment off before anybody can see it (docs/decisions/0017).
        set(path, b"/a#b", "200 kept").saw("GET /a; host: h"),
        set(path, b"/a\xff", "open goaway 1"),
        case(connect, headers(1, &plain, true), "404 kept"),
        case(connect, headers(1, &with_path, true), "reset 1 kept"),
        // Extended CONNECT where it was not offered.
        case(connect, headers(1, &extended, false), "reset 1 kept"),
    ]
}

fn bodies() -> Vec<Case> {
    let trailers = "h2: trailers with pseudo headers";
    let length = "h2: Content-Length disagrees with DATA";
    let cut = "POST /p; host: h; transfer-encoding: chunked; body \"hi\"; cut";
    let of_length = "POST /p; host: h; content-length: 3; *";
    let three: &[(&str, &[u8])] = &[("content-length", b"3")];
    vec![
        // The codec drops them before anybody can see them (docs/decisions/0017): they are
        // never merged into anything.
        post(trailers, &[], &[data(1, b"hi", false), headers(1, &[(":path", b"/evil")], true)])
            .is("200 kept")
            .saw("POST /p; host: h; transfer-encoding: chunked; body \"hi\""),
        post(
            trailers,
            &[],
            &[data(1, b"hi", false), headers(1, &[("x-a", b"1"), (":status", b"200")], true)],
        )
        .saw(cut),
        // Without END_STREAM they are no trailers.
        post(trailers, &[], &[data(1, b"hi", false), headers(1, &[("x-a", b"1")], false)]).saw(cut),
        post(length, three, &[data(1, b"hi", true)]).saw(of_length),
        post(length, three, &[data(1, b"hi you", true)]).saw(of_length),
        post(length, three, &[data(1, b"hi", false), headers(1, &[("x-a", b"1")], true)])
            .saw(of_length),
        post(length, &[("content-length", b"+3")], &[data(1, b"abc", true)]),
        post(length, &[("content-length", b"3, 3")], &[data(1, b"abc", true)]),
        post(
            length,
            &[("content-length", b"3"), ("content-length", b"3")],
            &[data(1, b"abc", true)],
        )
        .is("400 kept"),
        post(
            length,
            &[("content-length", b"3"), ("content-length", b"4")],
            &[data(1, b"abc", true)],
        ),
    ]
}

fn kept() -> Vec<Case> {
    let item = "h2: Cookie joined on the way to HTTP/1";
    let crumbs: [(&str, &[u8]); 3] = [("cookie", b"a=b"), ("x-a", b"1"), ("cookie", b"c=d")];
    let sum: [(&str, &[u8]); 4] = [
        ("x-sum", b"1"),
        ("content-length", b"9"),
        ("cookie", b"a=b"),
        ("authorization", b"Basic x"),
    ];
    let fields = [&request("POST", "/p")[..], &[]].concat();
    vec![
        get(item, |fields| fields.extend(crumbs), "200 kept")
            .saw("GET /g; host: h; cookie: a=b; c=d; x-a: 1"),
        // Trailers stay trailers, and some names may not stand there.
        case(
            "h2: trailers with pseudo headers",
            [headers(1, &fields, false), data(1, b"hi", false), headers(1, &sum, true)].concat(),
            "200 kept",
        )
        .saw("POST /p; host: h; transfer-encoding: chunked; body \"hi\"; trailer x-sum: 1"),
    ]
}

/// A peer that ends the connection in the middle of a body is no end of the body.
pub async fn cut_in_body(stage: &Stage) {
    let upstream = stage.http1("a").unwrap();
    let early = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    upstream.script([Answer::early([Step::Send(early), Step::ReadRequest])]);
    let mut frames = Frames::connect(stage.listener("http").unwrap(), &[]).await.unwrap();
    let head = headers(1, &request("POST", "/cut"), false);
    frames.send(&[head, data(1, b"hi", false)].concat()).await;
    // The request has reached the upstream.
    let seen = frames.read_until(SOON, |seen| seen.statuses.contains_key(&1)).await;
    assert_eq!(seen.statuses.get(&1), Some(&200));
    drop(frames);
    let seen = upstream.received(1).await.unwrap();
    assert!(matches!(seen[0].request.end, End::Cut | End::Reset), "{seen:?}");
}

/// Trailers stay trailers between two HTTP/2 peers too, without what may not stand there.
pub async fn trailers_between_http2_peers(stage: &Stage) {
    let upstream = stage.http2("two").unwrap();
    upstream.script([]);
    let mut frames = Frames::connect(stage.listener("http").unwrap(), &[]).await.unwrap();
    let sum: [(&str, &[u8]); 4] =
        [("host", b"evil"), ("x-sum", b"1"), ("content-length", b"9"), ("cookie", b"a=b")];
    let head = headers(1, &request("POST", "/h2"), false);
    frames.send(&[head, data(1, b"hi", false), headers(1, &sum, true)].concat()).await;
    assert_eq!(frames.verdict(1).await, "200 kept");
    let seen = upstream.received(1).await.unwrap();
    let trailers = seen[0].trailers.clone().unwrap_or_default();
    let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!((seen[0].body.as_slice(), names.as_slice()), (&b"hi"[..], &["x-sum"][..]));
}

/// What HTTP/2 upstreams answer that they should not.
pub async fn answers_from_http2_peers(stage: &Stage) {
    let upstream = stage.http2("two").unwrap();
    let large = vec![("x-large".to_owned(), "y".repeat(15_000)); 5];
    let long = vec![("content-length".to_owned(), "9".to_owned())];
    let good = || Answer2::status(200, "abc");
    for (what, answer, status, end) in [
        ("8 interim", Answer2 { interim: vec![103; 8], ..good() }, 200, End::Complete),
        ("9 interim", Answer2 { interim: vec![103; 9], ..good() }, 502, End::Complete),
        ("a switch", Answer2 { interim: vec![101], ..good() }, 502, End::Complete),
        ("less than its length", Answer2 { headers: long.clone(), ..good() }, 200, End::Cut),
        ("a large head", Answer2 { headers: large, ..good() }, 502, End::Complete),
    ] {
        upstream.script([answer]);
        let mut client = Client::connect(stage.listener("http").unwrap()).await.unwrap();
        client.send(b"GET /h2/answer HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let answered = client.response("GET").await.unwrap();
        let response = answered.response;
        assert_eq!((response.status(), &response.end), (status, &end), "{what}: {response:?}");
        let passed = answered.interim.len();
        assert!(passed <= 8 && (status != 200 || what != "8 interim" || passed == 8), "{passed}");
        assert_eq!(super::row::stranger(stage).await, "200", "{what}");
    }
}
