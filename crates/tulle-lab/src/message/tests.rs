use super::{End, Expected, Framing, Message, Reader};

async fn read(bytes: &str, expected: Expected<'_>) -> Message {
    Reader::default().message(&mut bytes.as_bytes(), expected).await
}

#[tokio::test]
async fn every_framing_of_a_response_is_read() {
    let length = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokX", Expected::Response("GET"));
    let length = length.await;
    assert_eq!((length.text().as_str(), length.framing), ("ok", Framing::Length(2)));

    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                  1;a=b\r\no\r\n1\r\nk\r\n0\r\nt: 1\r\n\r\n";
    let chunked = read(chunks, Expected::Response("GET")).await;
    assert_eq!((chunked.text().as_str(), &chunked.end), ("ok", &End::Complete));
    assert_eq!(chunked.trailers, [("t".to_owned(), "1".to_owned())]);
    assert_eq!(chunked.raw, chunks.as_bytes());

    let close = read("HTTP/1.0 200 OK\r\n\r\nok", Expected::Response("GET")).await;
    assert_eq!((close.text().as_str(), close.framing), ("ok", Framing::UntilClose));

    let head =
        read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", Expected::Response("HEAD")).await;
    assert_eq!((head.framing, head.end), (Framing::None, End::Complete));
}

#[tokio::test]
async fn a_message_that_stops_is_cut_and_never_complete() {
    let cases = [
        ("", End::Nothing),
        ("HTTP/1.1 200", End::Cut),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", End::Cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", End::Cut),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", End::Cut),
    ];
    for (bytes, end) in cases {
        assert_eq!(read(bytes, Expected::Response("GET")).await.end, end, "{bytes}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_read_one_by_one() {
    let mut bytes = &b"POST /a HTTP/1.1\r\ncontent-length: 1\r\n\r\nxGET /b HTTP/1.1\r\n\r\n"[..];
    let mut reader = Reader::default();
    let first = reader.message(&mut bytes, Expected::Request).await;
    let second = reader.message(&mut bytes, Expected::Request).await;
    assert_eq!((first.method(), first.target(), first.text().as_str()), ("POST", "/a", "x"));
    assert_eq!((second.method(), second.target()), ("GET", "/b"));
}
