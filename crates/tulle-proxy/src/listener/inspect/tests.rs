//! Tables of first bytes, and anything at all.

use proptest::prelude::*;

use super::*;

const BOTH: Inspection = Inspection {
    original_dst: false,
    tls: true,
    http: true,
    timeout: None,
    continue_on_timeout: false,
};

fn length16(bytes: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes()[..], &bytes].concat()
}

fn length8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")][..], bytes].concat()
}

fn extension(kind: u16, value: Vec<u8>) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &length16(value)].concat()
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let head = [&[3, 3][..], &[7; 32], &length8(&[9; 32])].concat();
    let ciphers = length16(vec![0x13, 0x01, 0x13, 0x02]);
    let body = [head, ciphers, length8(&[0]), length16(extensions.concat())].concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

fn records(message: &[u8], piece: usize) -> Vec<u8> {
    let record = |payload: &[u8]| [&[22, 3, 1][..], &length16(payload.to_vec())].concat();
    message.chunks(piece).flat_map(record).collect()
}

fn name_extension(name: &str) -> Vec<u8> {
    let entry = [&[0][..], &length16(name.as_bytes().to_vec())].concat();
    extension(0, length16(entry))
}

fn alpn_extension(names: &[&str]) -> Vec<u8> {
    extension(16, length16(names.iter().flat_map(|name| length8(name.as_bytes())).collect()))
}

/// A whole hello in one record.
pub(super) fn client_hello(name: &str, alpn: &[&str]) -> Vec<u8> {
    let grease = extension(0x0a0a, Vec::new());
    records(&message(&[grease, name_extension(name), alpn_extension(alpn)]), 1 << 14)
}

fn hello(name: &str, alpn: &[&str]) -> Verdict {
    let alpn = alpn.iter().map(|name| (*name).to_owned()).collect();
    Verdict::Found(Protocol::Tls(Hello { server_name: name.to_owned(), alpn }))
}

#[test]
fn hellos_say_name_and_protocols() {
    let bytes = client_hello("API.Example.com", &["h2", "http/1.1"]);
    assert_eq!(inspect(&bytes, &BOTH, false), hello("api.example.com", &["h2", "http/1.1"]));
    let more = [&bytes[..], b"early data"].concat();
    assert_eq!(inspect(&more, &BOTH, false), hello("api.example.com", &["h2", "http/1.1"]));
    assert_eq!(inspect(&records(&message(&[]), 1 << 14), &BOTH, false), hello("", &[]));
    let Verdict::Found(protocol) = inspect(&bytes, &BOTH, false) else { panic!("found") };
    assert!(protocol.is_tls() && !protocol.is_http());
    assert_eq!(protocol.application_protocols(), ["h2", "http/1.1"]);
}

#[test]
fn a_hello_may_be_cut_anywhere() {
    let whole = message(&[name_extension("a.b"), alpn_extension(&["istio"])]);
    for piece in [1, 2, 3, 4, 5, 50, whole.len() - 1, whole.len()] {
        let bytes = records(&whole, piece);
        assert_eq!(inspect(&bytes, &BOTH, false), hello("a.b", &["istio"]), "records of {piece}");
        for end in 0..bytes.len() {
            match inspect(&bytes[..end], &BOTH, false) {
                Verdict::NeedMore(at_least) => {
                    assert!(at_least > end && at_least <= bytes.len(), "{piece}, {end}");
                }
                other => panic!("records of {piece}, {end} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn what_is_no_proper_hello_is_no_tls() {
    let other = Verdict::Found(Protocol::Other);
    let good = client_hello("a.b", &[]);
    let edited = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let with = |extensions: &[Vec<u8>]| records(&message(extensions), 1 << 14);
    for (what, bytes) in [
        ("an alert", edited(0, 21)),
        ("a version before SSL 3", edited(1, 2)),
        ("an empty record", [22, 3, 1, 0, 0].to_vec()),
        ("a server hello", edited(5, 2)),
        ("a record that is too long", [22, 3, 1, 0x40, 1].to_vec()),
        ("a message that is too long", edited(6, 1)),
        ("a session that is too long", edited(5 + 4 + 34, 255)),
        ("two names", with(&[name_extension("a.b"), name_extension("c.d")])),
        ("an empty name", with(&[name_extension("")])),
        ("a name with NUL", with(&[name_extension("a\0b")])),
        ("a name of another kind", with(&[extension(0, length16(vec![1, 0, 1, b'a']))])),
        ("an empty protocol", with(&[extension(16, length16(vec![0]))])),
        ("an extension cut short", with(&[vec![0, 16, 0, 9, 1]])),
    ] {
        assert_eq!(inspect(&bytes, &BOTH, false), other, "{what}");
    }
    let unreadable = extension(16, length16(vec![2, 0xff, 0xfe, 1, b'a']));
    assert_eq!(inspect(&with(&[unreadable]), &BOTH, false), hello("", &["a"]));
}

#[test]
fn request_lines() {
    use Protocol::{H2, Http10, Http11, Other};
    let long_target = format!("GET /{}", "a".repeat(MAX_REQUEST_LINE_BYTES));
    let long_word = format!("hello {}", "a".repeat(MAX_REQUEST_LINE_BYTES));
    for (text, expected) in [
        ("GET / HTTP/1.1\r\n", Http11),
        ("GET / HTTP/1.0\r\nHost: a\r\n", Http10),
        ("\r\nGET / HTTP/1.1\r\n", Http11),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", H2),
        ("PRI * HTTP/2.0\r\n\r\nXX", Http11),
        ("CONNECT a:1 HTTP/1.1\r\n", Http11),
        ("PURGE http://a/ HTTP/1.1\r\n", Http11),
        // Lenient servers take these; our codec refuses them.
        ("GET / HTTP/1.1\n", Http11),
        ("GET  /\tHTTP/1.1 \r\n", Http11),
        ("get / http/1.1\r\n", Http11),
        ("GET / HTTP/1.7\r\n", Http11),
        ("GET /\r\n", Http10),
        (&long_target, Http11),
        // These are something else.
        ("EHLO mail.example\r\n", Other),
        ("get key\r\n", Other),
        ("GET\r\n", Other),
        ("*1\r\n$4\r\nPING\r\n", Other),
        ("SSH-2.0-OpenSSH_9.2\r\n", Other),
        (" GET / HTTP/1.1\r\n", Other),
        ("{\"a\": 1}", Other),
        (&"x".repeat(65), Other),
        (&long_word, Other),
    ] {
        let found = inspect(text.as_bytes(), &BOTH, false);
        assert_eq!(found, Verdict::Found(expected), "{text:.40}");
    }
}

#[test]
fn requests_are_waited_for() {
    for text in ["", "G", "GET", "GET /", "GET / HTTP/1.1\r", "PRI * HTTP/2.0\r\n\r\n", "\r\n"] {
        match inspect(text.as_bytes(), &BOTH, false) {
            Verdict::NeedMore(at_least) => assert!(at_least > text.len(), "{text:?}"),
            other => panic!("{text:?}: {other:?}"),
        }
        let ended = inspect(text.as_bytes(), &BOTH, true);
        assert_eq!(ended, Verdict::Found(Protocol::Other), "{text:?} and no more");
    }
}

#[test]
fn only_what_is_wanted_is_looked_for() {
    let (tls, http) = (client_hello("a", &[]), b"GET / HTTP/1.1\r\n");
    let only_tls = Inspection { http: false, ..BOTH };
    let only_http = Inspection { tls: false, ..BOTH };
    assert_eq!(inspect(http, &only_tls, false), Verdict::Found(Protocol::Other));
    assert_eq!(inspect(&tls, &only_http, false), Verdict::Found(Protocol::Other));
    assert_eq!(inspect(b"", &Inspection::default(), false), Verdict::Found(Protocol::Other));
}

/// Whatever comes: no panic, more means more, a verdict stays, and there is one in the end.
fn holds_for(bytes: &[u8]) {
    let (mut decided, mut needed) = (None, 0);
    for end in 0..=bytes.len() {
        match (inspect(&bytes[..end], &BOTH, false), &decided) {
            (Verdict::NeedMore(at_least), None) => {
                assert!(at_least > end);
                needed = at_least;
            }
            (Verdict::NeedMore(_), Some(before)) => panic!("{before:?} was taken back at {end}"),
            (Verdict::Found(found), None) => {
                assert!(end >= needed, "{needed} bytes were asked for and {end} were enough");
                decided = Some(found);
            }
            (Verdict::Found(found), Some(before)) => assert_eq!(&found, before, "at {end}"),
        }
    }
    assert!(matches!(inspect(bytes, &BOTH, true), Verdict::Found(_)));
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        holds_for(&bytes);
    }

    #[test]
    fn any_text(text in "[ -~\r\n\t]{0,120}") {
        holds_for(text.as_bytes());
    }

    #[test]
    fn any_edit_of_a_hello(edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4)) {
        let mut bytes = records(&message(&[name_extension("a.b"), alpn_extension(&["h2"])]), 40);
        for (at, byte) in edits {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        holds_for(&bytes);
    }
}
