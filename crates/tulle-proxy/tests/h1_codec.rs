//! What the HTTP/1 codec costs once its buffers have grown: no allocation per message, and (when
//! asked: `cargo test --release --test h1_codec -- --ignored --nocapture`) nanoseconds.
#![allow(unsafe_code, reason = "a counting allocator cannot be written without")]
#![expect(clippy::unwrap_used, reason = "a measured exchange: anything unexpected must end it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use tulle_model::head::{Headers, KnownId, Method, RequestHead, ResponseHead, Version};
use tulle_proxy::http::codec::h1::{
    ChunkDecoder, ChunkStep, CodecSettings, ConnectionOption, Framing, HeadParser, RequestContext,
    encode_chunk_size, encode_last_chunk, encode_request, encode_response,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUEST: &[u8] = b"GET /api/v1/orders/42?expand=items&limit=10 HTTP/1.1\r\n\
    Host: orders.shop.svc.cluster.local:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
    Accept: application/json, text/plain;q=0.9, */*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-GB,en;q=0.7\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    X-Request-Id: 7f3c1f7e-5d0a-4d52-9a0e-2f1f3f1c9f00\r\n\
    X-Tenant: blue\r\n\
    Cache-Control: no-cache\r\n\
    Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Date: Sat, 21 Nov 2026 03:12:00 GMT\r\n\
    Server: app\r\n\
    Cache-Control: private, max-age=0\r\n\
    Vary: Accept-Encoding\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

const CHUNKS: &[u8] = b"5\r\nhello\r\n10;a=b\r\n0123456789abcdef\r\n0\r\n\r\n";

/// What a worker keeps between messages.
#[derive(Default)]
struct Recycled {
    request: RequestHead,
    response: ResponseHead,
    trailers: Headers,
    out: Vec<u8>,
}

/// One exchange as a sidecar handles it: both heads read, edited and written, a body re-chunked.
fn exchange(recycled: &mut Recycled) {
    let settings = CodecSettings::default();
    let mut parser = HeadParser::new();
    recycled.out.clear();
    let head = &mut recycled.request;
    let parsed = parser.parse_request(REQUEST, head, &settings).unwrap().unwrap();
    assert!(parsed.is_reusable);
    black_box(head.canonical_authority().unwrap().port);
    head.headers.set(KnownId::XForwardedProto, b"http").unwrap();
    head.headers.set_with(KnownId::XEnvoyExpectedRqTimeoutMs, |out| out.push_u64(15_000)).unwrap();
    head.headers.remove(KnownId::XEnvoyInternal);
    encode_request(head, parsed.framing, ConnectionOption::Implicit, &mut recycled.out);

    let context = RequestContext::of(head);
    let head = &mut recycled.response;
    let parsed = parser.parse_response(RESPONSE, head, &context, &settings).unwrap().unwrap();
    head.headers.set(KnownId::Server, b"tulle").unwrap();
    head.headers.set_with(KnownId::XEnvoyUpstreamServiceTime, |out| out.push_u64(3)).unwrap();
    let implicit = ConnectionOption::Implicit;
    encode_response(head, parsed.framing, implicit, Version::Http11, &mut recycled.out);
    assert_eq!(parsed.framing, Framing::Chunked);

    let mut decoder = ChunkDecoder::new();
    let mut rest = CHUNKS;
    recycled.trailers.clear();
    while let ChunkStep::Data { skip, len } =
        decoder.step(rest, &mut recycled.trailers, &settings).unwrap()
    {
        encode_chunk_size(len, &mut recycled.out);
        recycled.out.extend_from_slice(&rest[skip..skip + len]);
        recycled.out.extend_from_slice(b"\r\n");
        rest = &rest[skip + len..];
    }
    assert!(decoder.is_finished());
    encode_last_chunk(Some(&recycled.trailers), &mut recycled.out);
    black_box(&recycled.out);
}

#[test]
fn recycled_heads_need_no_allocation() {
    let mut recycled = Recycled::default();
    exchange(&mut recycled);
    let first = ALLOCATIONS.get();
    assert!(first > 0, "the first exchange grows the buffers");
    for _ in 0..100 {
        exchange(&mut recycled);
    }
    assert_eq!(ALLOCATIONS.get() - first, 0);
}

fn measure(name: &str, mut run: impl FnMut()) {
    const ROUNDS: u32 = 200_000;
    for _ in 0..ROUNDS / 10 {
        run();
    }
    // The best of several: noise only adds.
    let best = (0..7)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                run();
            }
            start.elapsed() / ROUNDS
        })
        .min()
        .unwrap_or_default();
    println!("{name}: {} ns", best.as_nanos());
}

#[test]
#[ignore = "a measurement, of use in release only"]
fn nanoseconds() {
    let settings = CodecSettings::default();
    let mut recycled = Recycled::default();
    let mut parser = HeadParser::new();
    let mut head = RequestHead::new();
    measure("read a request of 10 fields", || {
        let parsed = parser.parse_request(black_box(REQUEST), &mut head, &settings);
        black_box(parsed).unwrap();
    });
    let mut out = Vec::new();
    measure("write it", || {
        out.clear();
        encode_request(&head, Framing::None, ConnectionOption::Implicit, black_box(&mut out));
    });
    let context = RequestContext { method: Method::Get, wants_upgrade: false };
    let mut response = ResponseHead::new();
    measure("read a response of 6 fields", || {
        let input = black_box(RESPONSE);
        black_box(parser.parse_response(input, &mut response, &context, &settings)).unwrap();
    });
    measure("a whole exchange with edits and chunks", || exchange(&mut recycled));
}
