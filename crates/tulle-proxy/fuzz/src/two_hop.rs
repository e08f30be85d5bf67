//! What is passed on means to the next hop what it meant to us: a message is read, written as the
//! proxy writes it, and read again by the reference parser, which shares nothing with the codec.

use tulle_model::head::{Headers, KnownId, Method, RequestHead, ResponseHead, Version};

use crate::codec::h1::{
    CHUNK_END, ChunkDecoder, ChunkStep, CodecSettings, ConnectionOption, Framing, HeadParser,
    RequestContext, encode_chunk_size, encode_last_chunk, encode_request, encode_response,
};
use crate::reference;

/// Names that end at this hop.
const HOP_BY_HOP: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "http2-settings", "te"];

/// Appends the body in `bytes`, framed as it was; what the body says, without framing.
fn pass_body(bytes: &[u8], framing: Framing, out: &mut Vec<u8>) -> Option<(Vec<u8>, usize)> {
    match framing {
        Framing::None => Some((Vec::new(), 0)),
        Framing::UntilClose | Framing::Tunnel => None,
        Framing::Length(length) => {
            let body = bytes.get(..usize::try_from(length).ok()?)?;
            out.extend_from_slice(body);
            Some((body.to_vec(), 0))
        }
        Framing::Chunked => pass_chunks(bytes, out),
    }
}

fn pass_chunks(mut bytes: &[u8], out: &mut Vec<u8>) -> Option<(Vec<u8>, usize)> {
    let (mut decoder, mut trailers, mut body) = (ChunkDecoder::new(), Headers::new(), Vec::new());
    loop {
        match decoder.step(bytes, &mut trailers, &CodecSettings::default()).ok()? {
            ChunkStep::NeedMore => return None,
            ChunkStep::Data { skip, len } => {
                let data = &bytes[skip..skip + len];
                encode_chunk_size(len, out);
                out.extend_from_slice(data);
                out.extend_from_slice(CHUNK_END);
                body.extend_from_slice(data);
                bytes = &bytes[skip + len..];
            }
            ChunkStep::End { .. } => {
                encode_last_chunk(Some(&trailers), out);
                return Some((body, trailers.len()));
            }
        }
    }
}

fn check(out: &[u8], read: reference::Accepted, body: &(Vec<u8>, usize)) {
    let text = String::from_utf8_lossy(out);
    assert_eq!(read.consumed, out.len(), "the next hop sees more than one message: {text}");
    let content = match &read.body {
        reference::Body::None => &[],
        reference::Body::Sized(content) | reference::Body::Chunked(content) => &content[..],
    };
    assert_eq!(content, body.0, "{text}");
    assert_eq!(read.trailers.len(), body.1, "{text}");
    for (name, _) in &read.fields {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        assert!(!HOP_BY_HOP.contains(&name.as_str()) || name == "te", "{name} is passed on");
    }
    let frames = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"content-length")
            || name.eq_ignore_ascii_case(b"transfer-encoding")
    };
    let lengths = read.fields.iter().filter(|(name, _)| frames(name));
    assert!(lengths.count() <= 1, "framed twice: {text}");
}

/// A request, as an upstream reads it.
pub fn check_request(bytes: &[u8]) {
    let settings = CodecSettings::default();
    let mut head = RequestHead::new();
    let Ok(Some(parsed)) = HeadParser::new().parse_request(bytes, &mut head, &settings) else {
        return;
    };
    // What the proxy always adds.
    let _ = head.headers.set(KnownId::XForwardedProto, b"http");
    let _ = head.headers.join(KnownId::XForwardedFor, b",", b"192.0.2.1");
    let (mut out, mut body) = (Vec::new(), Vec::new());
    let Some(content) = pass_body(&bytes[parsed.head_len..], parsed.framing, &mut body) else {
        return;
    };
    encode_request(&head, parsed.framing, ConnectionOption::Implicit, &mut out);
    out.extend(body);
    let Some(read) = reference::request(&out) else {
        panic!("the next hop refuses: {}", String::from_utf8_lossy(&out));
    };
    assert_eq!(read.method, head.method_bytes());
    let target = if head.method == Method::Connect { head.authority() } else { head.path() };
    assert_eq!(read.target, target);
    check(&out, read, &content);
}

/// An answer, as a client reads it.
pub fn check_response(bytes: &[u8]) {
    let settings = CodecSettings::default();
    let context = RequestContext { method: Method::Get, wants_upgrade: false };
    let mut head = ResponseHead::new();
    let parsed = HeadParser::new().parse_response(bytes, &mut head, &context, &settings);
    let Ok(Some(parsed)) = parsed else { return };
    if head.status < 200 {
        return;
    }
    let (mut out, mut body) = (Vec::new(), Vec::new());
    let Some(content) = pass_body(&bytes[parsed.head_len..], parsed.framing, &mut body) else {
        return;
    };
    let implicit = ConnectionOption::Implicit;
    encode_response(&head, parsed.framing, implicit, Version::Http11, &mut out);
    out.extend(body);
    let Some(read) = reference::response(&out) else {
        panic!("the next hop refuses: {}", String::from_utf8_lossy(&out));
    };
    check(&out, read, &content);
}
