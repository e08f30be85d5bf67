//! The closed set of field names that the mesh itself reads or writes.

macro_rules! known_names {
    ($($id:ident = $name:literal,)*) => {
        /// A field name known at compile time. Lookups by it compare one byte per field, and an
        /// absent one costs a single bit test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum KnownId { $($id,)* }

        /// The lower-case names, indexed by the enum.
        const NAMES: &[&str] = &[$($name,)*];

        impl KnownId {
            /// Every known name.
            pub const ALL: &'static [KnownId] = &[$(KnownId::$id,)*];
        }
    };
}

known_names! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    AcceptLanguage = "accept-language",
    AccessControlAllowOrigin = "access-control-allow-origin",
    AccessControlRequestMethod = "access-control-request-method",
    Age = "age",
    Authorization = "authorization",
    B3 = "b3",
    Baggage = "baggage",
    CacheControl = "cache-control",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentRange = "content-range",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    EarlyData = "early-data",
    ETag = "etag",
    Expect = "expect",
    Forwarded = "forwarded",
    GrpcAcceptEncoding = "grpc-accept-encoding",
    GrpcEncoding = "grpc-encoding",
    GrpcMessage = "grpc-message",
    GrpcStatus = "grpc-status",
    GrpcStatusDetails = "grpc-status-details-bin",
    GrpcTimeout = "grpc-timeout",
    Host = "host",
    Http2Settings = "http2-settings",
    IfModifiedSince = "if-modified-since",
    IfNoneMatch = "if-none-match",
    KeepAlive = "keep-alive",
    LastModified = "last-modified",
    Location = "location",
    Origin = "origin",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    ProxyStatus = "proxy-status",
    Range = "range",
    Referer = "referer",
    RetryAfter = "retry-after",
    SecWebSocketAccept = "sec-websocket-accept",
    SecWebSocketExtensions = "sec-websocket-extensions",
    SecWebSocketKey = "sec-websocket-key",
    SecWebSocketProtocol = "sec-websocket-protocol",
    SecWebSocketVersion = "sec-websocket-version",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    TraceParent = "traceparent",
    TraceState = "tracestate",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Vary = "vary",
    Via = "via",
    WwwAuthenticate = "www-authenticate",
    XB3Flags = "x-b3-flags",
    XB3ParentSpanId = "x-b3-parentspanid",
    XB3Sampled = "x-b3-sampled",
    XB3SpanId = "x-b3-spanid",
    XB3TraceId = "x-b3-traceid",
    XEnvoyAttemptCount = "x-envoy-attempt-count",
    XEnvoyCluster = "x-envoy-cluster",
    XEnvoyDecoratorOperation = "x-envoy-decorator-operation",
    XEnvoyDegraded = "x-envoy-degraded",
    XEnvoyDownstreamServiceCluster = "x-envoy-downstream-service-cluster",
    XEnvoyDownstreamServiceNode = "x-envoy-downstream-service-node",
    XEnvoyDropOverload = "x-envoy-drop-overload",
    XEnvoyExpectedRqTimeoutMs = "x-envoy-expected-rq-timeout-ms",
    XEnvoyExternalAddress = "x-envoy-external-address",
    XEnvoyForceTrace = "x-envoy-force-trace",
    XEnvoyHedgeOnPerTryTimeout = "x-envoy-hedge-on-per-try-timeout",
    XEnvoyImmediateHealthCheckFail = "x-envoy-immediate-health-check-fail",
    XEnvoyInternal = "x-envoy-internal",
    XEnvoyIpTags = "x-envoy-ip-tags",
    XEnvoyIsTimeoutRetry = "x-envoy-is-timeout-retry",
    XEnvoyMaxRetries = "x-envoy-max-retries",
    XEnvoyOriginalDstHost = "x-envoy-original-dst-host",
    XEnvoyOriginalHost = "x-envoy-original-host",
    XEnvoyOriginalMethod = "x-envoy-original-method",
    XEnvoyOriginalPath = "x-envoy-original-path",
    XEnvoyOriginalUrl = "x-envoy-original-url",
    XEnvoyOverloaded = "x-envoy-overloaded",
    XEnvoyPeerMetadata = "x-envoy-peer-metadata",
    XEnvoyPeerMetadataId = "x-envoy-peer-metadata-id",
    XEnvoyRateLimited = "x-envoy-ratelimited",
    XEnvoyRetriableHeaderNames = "x-envoy-retriable-header-names",
    XEnvoyRetriableStatusCodes = "x-envoy-retriable-status-codes",
    XEnvoyRetryGrpcOn = "x-envoy-retry-grpc-on",
    XEnvoyRetryOn = "x-envoy-retry-on",
    XEnvoyUnconditionalDropOverload = "x-envoy-unconditional-drop-overload",
    XEnvoyUpstreamAltStatName = "x-envoy-upstream-alt-stat-name",
    XEnvoyUpstreamCanary = "x-envoy-upstream-canary",
    XEnvoyUpstreamHealthcheckedCluster = "x-envoy-upstream-healthchecked-cluster",
    XEnvoyUpstreamRequestPerTryTimeoutMs = "x-envoy-upstream-rq-per-try-timeout-ms",
    XEnvoyUpstreamRequestTimeoutMs = "x-envoy-upstream-rq-timeout-ms",
    XEnvoyUpstreamRequestTimeoutAltResponse = "x-envoy-upstream-rq-timeout-alt-response",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    XEnvoyUpstreamStreamDurationMs = "x-envoy-upstream-stream-duration-ms",
    XForwardedClientCert = "x-forwarded-client-cert",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedProto = "x-forwarded-proto",
    XRequestId = "x-request-id",
}

/// Slots of the index; a power of two, several times the number of names.
const SLOTS: usize = 512;
/// End of a chain.
const NONE: u8 = u8::MAX;

struct Index {
    first: [u8; SLOTS],
    next: [u8; NAMES.len()],
}

/// Three bytes and the length tell nearly all known names apart; letter case is folded by `| 0x20`.
const fn slot(bytes: &[u8]) -> usize {
    let len = bytes.len();
    let first = (bytes[0] | 0x20) as usize;
    let middle = (bytes[len / 2] | 0x20) as usize;
    let last = (bytes[len - 1] | 0x20) as usize;
    (len.wrapping_mul(37) ^ first.wrapping_mul(5) ^ middle.wrapping_mul(17) ^ (last << 3))
        & (SLOTS - 1)
}

const fn build_index() -> Index {
    let mut index = Index { first: [NONE; SLOTS], next: [NONE; NAMES.len()] };
    let mut id = 0;
    while id < NAMES.len() {
        let slot = slot(NAMES[id].as_bytes());
        index.next[id] = index.first[slot];
        index.first[slot] = id as u8;
        id += 1;
    }
    index
}

/// `name.eq_ignore_ascii_case(known)`, eight bytes at a time. A known name holds only lower-case
/// letters, digits and `-`, so setting bit 5 of a byte makes it equal to a known one only if it is
/// the same byte, its upper case, or a control byte.
#[inline]
fn is_folded(name: &[u8], known: &[u8]) -> bool {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    const BIT_6: u64 = 0x4040_4040_4040_4040;
    if name.len() != known.len() {
        return false;
    }
    let is_same = |name: &[u8; 8], known: &[u8; 8]| {
        let word = u64::from_le_bytes(*name);
        // Bit 5 or 6: no control byte.
        let is_printable = (word | word << 1) & BIT_6 == BIT_6;
        is_printable && word | FOLD == u64::from_le_bytes(*known)
    };
    match (name.last_chunk::<8>(), known.last_chunk::<8>()) {
        (Some(end), Some(known_end)) => {
            let (words, _) = name.as_chunks::<8>();
            let (known_words, _) = known.as_chunks::<8>();
            is_same(end, known_end)
                && words.iter().zip(known_words).all(|(word, known)| is_same(word, known))
        }
        _ => name.eq_ignore_ascii_case(known),
    }
}

static INDEX: Index = build_index();

// The presence mask of `Headers` has one bit per name.
const _: () = assert!(NAMES.len() <= 128);

impl KnownId {
    /// The known name equal to `name`, ignoring ASCII case.
    #[inline]
    pub fn of(name: &[u8]) -> Option<KnownId> {
        if name.is_empty() {
            return None;
        }
        let mut id = INDEX.first[slot(name)];
        while id != NONE {
            if is_folded(name, NAMES[id as usize].as_bytes()) {
                return Some(KnownId::ALL[id as usize]);
            }
            id = INDEX.next[id as usize];
        }
        None
    }

    /// The name in lower case.
    #[inline]
    pub const fn as_str(self) -> &'static str {
        NAMES[self as usize]
    }

    /// Bit of this name in a presence mask.
    #[inline]
    pub(super) const fn bit(self) -> u128 {
        1 << self as u8
    }
}

/// Some known names, to be looked for all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSet(u128);

impl KnownSet {
    /// These names.
    pub const fn of(ids: &[KnownId]) -> KnownSet {
        let mut bits = 0;
        let mut index = 0;
        while index < ids.len() {
            bits |= ids[index].bit();
            index += 1;
        }
        KnownSet(bits)
    }

    /// These names and those.
    pub const fn and(self, ids: &[KnownId]) -> KnownSet {
        KnownSet(self.0 | KnownSet::of(ids).0)
    }

    /// Whether `id` is one of them.
    #[inline]
    pub const fn has(self, id: KnownId) -> bool {
        self.0 & id.bit() != 0
    }

    /// Their bits in a presence mask.
    #[inline]
    pub(super) const fn bits(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_is_lower_case_itself() {
        for &id in KnownId::ALL {
            let name = id.as_str();
            assert_eq!(KnownId::of(name.as_bytes()), Some(id), "{name}");
            assert_eq!(KnownId::of(name.to_ascii_uppercase().as_bytes()), Some(id), "{name}");
            assert_eq!(name, name.to_ascii_lowercase());
            assert_eq!(KnownId::of(format!("{name}x").as_bytes()), None);
            assert_eq!(KnownId::of(&name.as_bytes()[1..]).map(KnownId::as_str), None);
        }
    }

    #[test]
    fn bytes_that_fold_to_the_same_slot_are_still_compared() {
        // 0x0d | 0x20 == b'-': the slot function may not tell them apart, the comparison must.
        assert_eq!(KnownId::of(b"content\x0dlength"), None);
        assert_eq!(KnownId::of(b""), None);
    }

    #[test]
    fn the_fast_comparison_equals_the_plain_one() {
        for &id in KnownId::ALL {
            let known = id.as_str().as_bytes();
            for at in 0..known.len() {
                for byte in 0..=255 {
                    let mut name = known.to_vec();
                    name[at] = byte;
                    assert_eq!(
                        is_folded(&name, known),
                        name.eq_ignore_ascii_case(known),
                        "{name:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn chains_stay_short() {
        let longest = (0..SLOTS)
            .map(|slot| {
                let mut id = INDEX.first[slot];
                let mut length = 0;
                while id != NONE {
                    length += 1;
                    id = INDEX.next[id as usize];
                }
                length
            })
            .max();
        assert!(longest <= Some(3), "longest chain {longest:?}");
    }
}
