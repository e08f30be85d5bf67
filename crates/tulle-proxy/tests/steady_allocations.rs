//! In steady state a kept HTTP/1 connection costs no heap allocation per request (design D1):
//! the real proxy serves, and an allocator counts what its workers ask for.
#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
#![expect(clippy::unwrap_used, reason = "a measured exchange: anything unexpected must end it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tulle_proxy::app::Proxy;
use tulle_proxy::settings::Settings;

/// Requests before anything is counted: buffers, pools and tables take their size.
const WARM_UP: u64 = 200;
/// Requests that are counted.
const REQUESTS: u64 = 2_000;
/// What the once-a-second housekeeping may take meanwhile: far less than one for each request.
const HOUSEKEEPING: u64 = REQUESTS / 50;

struct Counting;

thread_local! {
    /// Whether the thread belongs to the test, and not to the proxy.
    static IS_TEST: Cell<bool> = const { Cell::new(false) };
}
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    // While a thread ends its cell is gone; that is no request.
    if IS_TEST.try_with(Cell::get) == Ok(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello";

/// Answers on every connection until it ends.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        IS_TEST.set(true);
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                IS_TEST.set(true);
                let mut bytes = [0; 4096];
                let mut length = 0;
                while let Ok(read @ 1..) = stream.read(&mut bytes[length..]) {
                    length += read;
                    if bytes[..length].ends_with(b"\r\n\r\n") {
                        length = 0;
                        stream.write_all(ANSWER).unwrap();
                    }
                }
            });
        }
    });
    address
}

fn config(port: u16, backend: SocketAddr, route: &str) -> String {
    let hcm = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    format!(
        r#"
static_resources:
  listeners:
  - name: http
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/{hcm}
          stat_prefix: http
          route_config:
            name: local
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {route}}}]}}
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: backend
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}
  - name: hashed
    lb_policy: RING_HASH
    load_assignment:
      cluster_name: hashed
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}
"#,
        backend = backend.port()
    )
}

/// A proxy in this process; the port was free a moment ago.
fn start(route: &str) -> (Proxy, SocketAddr) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    let text = config(address.port(), backend(), route);
    let arguments = ["tulle-proxy", "--concurrency", "1", "--config-yaml", &text];
    let settings = Settings::parse(arguments.map(OsString::from)).unwrap();
    drop(free);
    (Proxy::start(&settings, None).unwrap(), address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

fn exchange(stream: &mut TcpStream, count: u64) {
    let request =
        b"GET /some/path?q=1 HTTP/1.1\r\nhost: one.test\r\nuser-agent: t\r\ncookie: who=me\r\n\r\n";
    let mut bytes = [0; 4096];
    for _ in 0..count {
        stream.write_all(request).unwrap();
        let mut length = 0;
        while !bytes[..length].ends_with(b"hello") {
            let read = stream.read(&mut bytes[length..]).unwrap();
            assert!(read > 0, "the answer is cut");
            length += read;
        }
        assert!(bytes.starts_with(b"HTTP/1.1 200 OK"), "{:?}", str::from_utf8(&bytes[..length]));
    }
}

fn check(route: &str) {
    let (_proxy, address) = start(route);
    let mut stream = connect(address);
    stream.set_nodelay(true).unwrap();
    exchange(&mut stream, WARM_UP);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    exchange(&mut stream, REQUESTS);
    let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!("{made} allocations in {REQUESTS} requests through {route}");
    assert!(made <= HOUSEKEEPING, "{made} allocations in {REQUESTS} requests through {route}");
}

/// One test, because the allocator counts for the whole process.
#[test]
fn a_request_on_a_kept_connection_allocates_nothing() {
    IS_TEST.set(true);
    check("{cluster: backend}");
    check("{cluster: backend, timeout: 3s, retry_policy: {retry_on: 5xx, num_retries: 2}}");
    check(
        "{cluster: hashed, hash_policy: [{header: {header_name: user-agent}}, {cookie: {name: who, \
         ttl: 9s}}, {query_parameter: {name: q}}, {connection_properties: {source_ip: true}}]}",
    );
}
