//! The codec against the reference: it accepts no more, and what both accept they frame the same.

use proptest::prelude::*;
use tulle_model::head::Method;

use super::generate::{any_request_stream, any_response_stream, valid_request};
use super::reference::{self, Accepted, Body};
use super::*;

const GET: RequestContext = RequestContext { method: Method::Get, wants_upgrade: false };

/// Compares one complete message of the codec with the reference's reading of the same bytes.
fn check_same(message: &Message, expected: &Accepted) -> Result<(), TestCaseError> {
    let start = message.start.split(' ').next().unwrap_or_default().as_bytes();
    prop_assert_eq!(start, expected.method.as_slice());
    let (framing, body): (_, &[u8]) = match &expected.body {
        Body::None => (Framing::None, b""),
        Body::Sized(body) => (Framing::Length(body.len() as u64), body),
        Body::Chunked(body) => (Framing::Chunked, body),
    };
    prop_assert_eq!(message.framing, Some(framing));
    prop_assert_eq!(message.body.as_slice(), body);
    check_subsequence(&message.fields, &expected.fields)?;
    prop_assert_eq!(message.trailers.len(), expected.trailers.len());
    check_subsequence(&message.trailers, &expected.trailers)
}

/// The codec leaves hop-by-hop fields out and takes the Host of an absolute target; all else is
/// there, in order.
fn check_subsequence(
    found: &[(String, String)],
    expected: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), TestCaseError> {
    let text = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
    let mut rest = expected.iter().map(|(name, value)| (text(name), text(value)));
    for (name, value) in found {
        let is_rewritten =
            ["host", "te"].iter().any(|rewritten| name.eq_ignore_ascii_case(rewritten));
        let is_there =
            rest.any(|(key, original)| key == *name && (original == *value || is_rewritten));
        prop_assert!(is_there, "{name}: {value} is not in {expected:?}");
    }
    Ok(())
}

/// Every complete message but the last must be what the reference reads; so must the last if the
/// stream ended behind it.
fn check_stream(
    input: &[u8],
    transcript: &Transcript,
    read: fn(&[u8]) -> Option<Accepted>,
) -> Result<usize, TestCaseError> {
    let mut rest = input;
    let unfinished = usize::from(match transcript.end {
        End::Idle | End::InHead => false,
        End::InBody | End::Open => true,
        // Whether the last one was finished before the refusal is not told.
        End::Refused(_) => true,
    });
    let complete = transcript.messages.len().saturating_sub(unfinished);
    for message in &transcript.messages[..complete] {
        if message.framing == Some(Framing::Tunnel) {
            break;
        }
        let Some(expected) = read(rest) else {
            return Err(TestCaseError::fail(format!(
                "accepted {message:?}, which the reference refuses: {:?}",
                String::from_utf8_lossy(rest)
            )));
        };
        check_same(message, &expected)?;
        rest = &rest[expected.consumed..];
    }
    Ok(complete)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_accepted_no_more_than_the_grammar_allows(input in any_request_stream()) {
        check_stream(&input, &read_requests(&input), reference::request)?;
    }

    #[test]
    fn responses_are_accepted_no_more_than_the_grammar_allows(input in any_response_stream()) {
        let transcript = read_responses(&input, GET);
        // What ends with the connection has no end the reference could find; 1.0 it does not know.
        let is_comparable = !input.windows(8).any(|bytes| bytes == b"HTTP/1.0")
            && transcript.end != End::Open;
        if is_comparable {
            check_stream(&input, &transcript, reference::response)?;
        }
    }

    /// The other direction, so that the property above is not true of a codec that refuses all.
    #[test]
    fn valid_requests_are_accepted(requests in proptest::collection::vec(valid_request(), 1..4)) {
        let input = requests.concat();
        let transcript = read_requests(input.as_bytes());
        prop_assert_eq!(transcript.end, End::Idle, "{:?}", input);
        prop_assert_eq!(transcript.messages.len(), requests.len());
        let compared = check_stream(input.as_bytes(), &transcript, reference::request)?;
        prop_assert_eq!(compared, requests.len());
    }
}

#[test]
fn the_reference_refuses_what_hostile_peers_send() {
    let refused = [
        "GET / HTTP/1.1\r\nHost: a\nx: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx : y\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
    ];
    for input in refused {
        assert_eq!(reference::request(input.as_bytes()), None, "{input:?}");
    }
    let accepted = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    1 ; a = \"b\"\r\nx\r\n0\r\nt: 1\r\n\r\nGET";
    let accepted = reference::request(accepted.as_bytes()).unwrap();
    assert_eq!(accepted.body, Body::Chunked(b"x".to_vec()));
    assert_eq!(accepted.trailers, [(b"t".to_vec(), b"1".to_vec())]);
}
