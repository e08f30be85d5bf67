//! Responses, row by row: framing by the request's method, and what an upstream may not send.

use tulle_model::head::Method;

use super::*;

const GET: RequestContext = RequestContext { method: Method::Get, wants_upgrade: false };
const HEAD: RequestContext = RequestContext { method: Method::Head, wants_upgrade: false };
const CONNECT: RequestContext = RequestContext { method: Method::Connect, wants_upgrade: false };
const UPGRADE: RequestContext = RequestContext { method: Method::Get, wants_upgrade: true };

#[track_caller]
fn check(context: RequestContext, input: &str, framing: Framing, body: &str) -> Message {
    let transcript = read_responses(input.as_bytes(), context);
    let message = transcript.only();
    assert_eq!(message.framing, Some(framing), "{input:?}");
    assert_eq!(message.body, body.as_bytes(), "{input:?}");
    message.clone()
}

#[track_caller]
fn check_refused(context: RequestContext, input: &str, expected: Violation) {
    let transcript = read_responses(input.as_bytes(), context);
    assert_eq!(transcript.end, End::Refused(expected), "{input:?} gave {transcript:?}");
}

#[test]
fn length_chunks_or_close() {
    let message = check(
        GET,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\n\r\nhi",
        Framing::Length(2),
        "hi",
    );
    assert_eq!((message.start.as_str(), message.is_reusable), ("200", true));
    check(
        GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        Framing::Chunked,
        "hi",
    );
    let open = check(GET, "HTTP/1.1 200 OK\r\n\r\nhi", Framing::UntilClose, "hi");
    assert!(!open.is_reusable);
    let old = check(GET, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Framing::Length(0), "");
    assert!(!old.is_reusable);
    let kept = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n";
    assert!(check(GET, kept, Framing::Length(0), "").is_reusable);
    let closed = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(!check(GET, closed, Framing::Length(0), "").is_reusable);
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        check(HEAD, &format!("HTTP/1.1 200 OK\r\n{framing}\r\n"), Framing::None, "");
        check(GET, &format!("HTTP/1.1 304 Not Modified\r\n{framing}\r\n"), Framing::None, "");
    }
    let head = check(HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::None, "");
    assert_eq!(head.field("content-length"), Some("5"));
    for status in ["204 No Content", "100 Continue", "103 Early Hints"] {
        let zero = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(check(GET, &zero, Framing::None, "").field("content-length"), None);
        check_refused(
            GET,
            &format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello"),
            Violation::ContentLengthNotAllowed,
        );
        check_refused(
            GET,
            &format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            Violation::TransferEncodingNotAllowed,
        );
    }
}

#[test]
fn interim_responses_are_messages_of_their_own() {
    let input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let transcript = read_responses(input.as_bytes(), GET);
    let statuses: Vec<_> = transcript.messages.iter().map(|m| m.start.as_str()).collect();
    assert_eq!(statuses, ["100", "103", "200"]);
    assert_eq!(transcript.messages[2].body, b"hi");
}

#[test]
fn switching_protocols_needs_a_request_for_it() {
    let input = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 \r\nframes";
    let message = check(UPGRADE, input, Framing::Tunnel, "frames");
    assert_eq!(message.field("upgrade"), Some("websocket"));
    assert!(!message.is_reusable);
    check_refused(GET, input, Violation::UnexpectedUpgrade);
    let old = input.replace("HTTP/1.1", "HTTP/1.0");
    check_refused(UPGRADE, &old, Violation::UnexpectedUpgrade);
    // Declined: an ordinary response, and its own offer is not passed on.
    let declined = "HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\
                    Content-Length: 0\r\n\r\n";
    assert_eq!(check(UPGRADE, declined, Framing::Length(0), "").field("upgrade"), None);
}

#[test]
fn connect_succeeds_into_a_tunnel() {
    check(CONNECT, "HTTP/1.1 200 OK\r\n\r\nbytes", Framing::Tunnel, "bytes");
    check(CONNECT, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Framing::Tunnel, "");
    check(CONNECT, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", Framing::Length(2), "no");
    check_refused(
        CONNECT,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Violation::TransferEncodingNotAllowed,
    );
    check_refused(
        CONNECT,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
        Violation::ContentLengthNotAllowed,
    );
}

#[test]
fn ambiguous_framing_is_refused() {
    for fields in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        for context in [GET, HEAD] {
            let input = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            check_refused(context, &input, Violation::BothFramings);
        }
    }
    for value in ["+2", "2, 2", "", "0x2"] {
        let input = format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nhi");
        check_refused(GET, &input, Violation::ContentLength);
        check_refused(HEAD, &input, Violation::ContentLength);
    }
    for value in ["gzip, chunked", "chunked, deflate", "identity", "chunkedchunked"] {
        let input = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}\r\n\r\n");
        check_refused(GET, &input, Violation::TransferCoding);
    }
    check_refused(
        GET,
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Violation::TransferEncodingNotAllowed,
    );
    check_refused(
        GET,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n25  \r\n",
        Violation::ChunkSize,
    );
}

#[test]
fn status_lines_are_strict() {
    for line in [
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200  O\tK",
        "HTTP/1.1 999 x",
        "HTTP/1.0 200 Grün",
    ] {
        check(GET, &format!("{line}\r\nContent-Length: 0\r\n\r\n"), Framing::Length(0), "");
    }
    for line in [
        "HTP/1.1 200 OK",
        "HTTP/01.1 200 OK",
        "HTTP/11.1 200 OK",
        "HTTP/1.01 200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 2 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20x OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\0K",
        "http/1.1 200 OK",
        "HTTP/1.1 200 O\rK",
        "200 OK",
        "HTTP/1.1",
        "ICY 200 OK",
    ] {
        let input = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        check_refused(GET, &input, Violation::StatusLine);
    }
    check_refused(GET, "HTTP/5.6 200 OK\r\n\r\n", Violation::Version);
    check_refused(GET, "HTTP/2.0 200 OK\r\n\r\n", Violation::Version);
    check_refused(GET, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", Violation::LineEnding);
    check_refused(GET, "HTTP/1.1 200 OK\r\n Host: foo\r\n\r\n", Violation::FieldName);
    check_refused(GET, "HTTP/1.1 200 OK\r\nFoo: 1\rBar: 2\r\n\r\n", Violation::FieldValue);
    // The empty line that may precede a request may not precede a response.
    check_refused(GET, "\r\nHTTP/1.1 200 OK\r\n\r\n", Violation::RequestLine);
}

#[test]
fn hop_by_hop_fields_end_here() {
    let input = "HTTP/1.1 200 OK\r\nConnection: X-Hop, x-envoy-own\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
                 Proxy-Connection: keep-alive\r\nX-Kept: 1\r\nX-Envoy-Own: 1\r\n\
                 Content-Length: 0\r\n\r\n";
    let message = check(GET, input, Framing::Length(0), "");
    let names: Vec<_> = message.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-Kept", "Content-Length"]);
    for name in ["content-length", "Transfer-Encoding"] {
        let input = format!("HTTP/1.1 200 OK\r\nConnection: {name}\r\nContent-Length: 0\r\n\r\n");
        check_refused(GET, &input, Violation::ConnectionOption);
    }
}
