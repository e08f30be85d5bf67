//! What upstreams answer that they should not: never a clean end for what was cut, never a
//! connection used again on which more came than was asked for.

use tulle_lab::backend::http1::{Answer, Step};

use crate::row::{Row, answered, row};

fn raw(item: &'static str, answer: &str) -> Row {
    answered(item, Answer::raw(answer))
}

pub fn rows() -> Vec<Row> {
    [bodies(), interim(), heads(), cuts()].concat()
}

fn bodies() -> Vec<Row> {
    let item = "answer: body by method and status";
    let head = |answer: &str| {
        row(item, "HEAD /up HTTP/1.1\r\nhost: h\r\n\r\n")
            .method("HEAD")
            .answer(Answer::raw(answer))
            .saw("HEAD /up; host: h")
            .is("200 kept")
    };
    vec![
        head("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        raw(item, "HTTP/1.1 204 No\r\n\r\n").is("204 kept"),
        raw(item, "HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n").is("204 kept"),
        raw(item, "HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nhello").is("502 kept"),
        raw(item, "HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").is("502 kept"),
        raw(item, "HTTP/1.1 304 Not\r\ncontent-length: 5\r\n\r\n").is("304 kept"),
        raw(
            item,
            "HTTP/1.1 103 Hints\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\
             content-length: 0\r\n\r\n",
        )
        .is("502 kept"),
        row(item, "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\nleaked")
            .method("CONNECT")
            .is("404 closed"),
    ]
}

fn interim() -> Vec<Row> {
    let item = "answer: at most 8 interim answers";
    let interim = |count: usize| {
        let hints = "HTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n".repeat(count);
        raw(item, &format!("{hints}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
    };
    let unasked = "answer: 101 that nobody asked for";
    vec![
        interim(8).is("200 kept"),
        interim(9).is("502 kept"),
        raw(unasked, "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nbytes")
            .is("502 kept"),
        raw(unasked, "HTTP/1.1 101 Switching\r\n\r\n").is("502 kept"),
        // Asked for, but of another protocol.
        row(
            unasked,
            "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .answer(Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"))
        .is("200 closed")
        .saw("GET /ws; host: h; upgrade: websocket; connection: Upgrade"),
    ]
}

fn heads() -> Vec<Row> {
    let both = "answer: both framings are 502";
    vec![
        raw(
            both,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .is("502 kept"),
        raw(both, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi")
            .is("502 kept"),
        raw(both, "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nhi").is("502 kept"),
        raw(both, "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhi").is("502 kept"),
        raw(both, "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").is("502 kept"),
        raw(both, "HTTP/1.1 200 OK\r\nx-a : 1\r\ncontent-length: 0\r\n\r\n").is("502 kept"),
        raw(both, "HTTP/1.1 200 OK\r\nx-a: 1\n\r\ncontent-length: 0\r\n\r\n").is("502 kept"),
        raw(both, "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n").is("502 kept"),
        raw(both, "HTTP/1.1 200 OK\r\nconnection: content-length\r\ncontent-length: 0\r\n\r\n")
            .is("502 kept"),
    ]
}

fn cuts() -> Vec<Row> {
    let length = "answer: length cut is never a clean end";
    let chunk = "answer: chunk cut is never a clean end";
    let cut = |item, answer: &str, last: Step| {
        answered(item, Answer::raw(answer).then(last)).is("200 cut")
    };
    let of_length = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc";
    let chunked =
        |chunks: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    vec![
        cut(length, of_length, Step::Close),
        cut(length, of_length, Step::Reset),
        cut(length, of_length, Step::HalfClose),
        cut(chunk, &chunked("2\r\nab\r\n"), Step::Close),
        cut(chunk, &chunked("5\r\nab"), Step::Close),
        cut(chunk, &chunked("2\r\nab\r\n0\r\n"), Step::Close),
        cut(chunk, &chunked("2\r\nab\r\nzz\r\n"), Step::Wait(std::time::Duration::ZERO)),
        cut(chunk, &chunked("2\r\nabXX"), Step::Wait(std::time::Duration::ZERO)),
        // A body that ends with its connection: a reset is a cut, and only a reset can say so.
        cut(length, "HTTP/1.1 200 OK\r\n\r\nabc", Step::Reset),
        answered(length, Answer::raw("HTTP/1.1 200 OK\r\n\r\nabc").then(Step::Close))
            .is("200 kept"),
    ]
}
