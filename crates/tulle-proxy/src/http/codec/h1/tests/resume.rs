//! It does not matter how bytes are cut into packets.

use proptest::prelude::*;
use tulle_model::head::Method;

use super::generate::{any_request_stream, any_response_stream};
use super::*;

const GET: RequestContext = RequestContext { method: Method::Get, wants_upgrade: false };

const REQUESTS: &[&str] = &[
    "\r\nGET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\\\"\"\r\nhello\r\n\
     1\r\n!\r\n0\r\nX-T: 1\r\nY-T: 2\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPUT /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
    "\n",
    "\r\n\r\nGET",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\n\r\n",
];

#[track_caller]
fn check_every_split(input: &[u8], side: impl Fn() -> Side) {
    let settings = CodecSettings::default();
    let whole = read_parts(side(), settings, [input]);
    let bytewise = read_parts(side(), settings, input.chunks(1));
    assert_eq!(bytewise, whole, "one byte per packet: {:?}", String::from_utf8_lossy(input));
    for at in 1..input.len() {
        let (front, back) = input.split_at(at);
        let parts = read_parts(side(), settings, [front, back]);
        assert_eq!(parts, whole, "cut at {at}: {:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn every_split_of_every_vector() {
    for request in REQUESTS {
        check_every_split(request.as_bytes(), || Side::Request);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_split_of_generated_requests(input in any_request_stream()) {
        check_every_split(&input, || Side::Request);
    }

    #[test]
    fn every_split_of_generated_responses(input in any_response_stream()) {
        check_every_split(&input, || Side::Response(GET));
    }

    #[test]
    fn limits_do_not_depend_on_packets(
        head in 20usize..80,
        fields in 1usize..5,
        input in any_request_stream(),
        cut in 1usize..20,
    ) {
        let settings = CodecSettings {
            max_head_bytes: head,
            max_fields: fields,
            ..CodecSettings::default()
        };
        let whole = read_parts(Side::Request, settings, [input.as_slice()]);
        let cut = read_parts(Side::Request, settings, input.chunks(cut));
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_requests(&input);
        read_responses(&input, GET);
        let mut decoder = ChunkDecoder::new();
        let _ = decoder.step(&input, &mut Headers::new(), &CodecSettings::default());
    }
}

/// A head of one byte per packet costs one look at each byte: doubling its length doubles the
/// bytes examined. Counted by the scanner's own progress, not by time.
#[test]
fn a_slow_head_is_not_scanned_again() {
    let settings = CodecSettings::default();
    let mut scanner = super::super::scan::HeadScanner::default();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "v".repeat(1000));
    for len in 1..head.len() {
        let found = scanner.scan(&head.as_bytes()[..len], &settings, true);
        assert_eq!(found, Ok(None));
        assert_eq!(scanner.examined(), len);
    }
    assert_eq!(scanner.scan(head.as_bytes(), &settings, true), Ok(Some(0..head.len())));
}
