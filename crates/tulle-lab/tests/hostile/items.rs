//! Everything the design names, and what proves it.

use std::collections::BTreeSet;

use crate::{answers, edge_rows, framing, heads, http2};

/// Items of which each has at least one row of a table, by the name that its rows give.
const ROWS: [&str; 77] = [
    // Request framing.
    "framing: length and coding",
    "framing: several lengths",
    "framing: list of lengths",
    "framing: length +5",
    "framing: length 0x5",
    "framing: length 1 2",
    "framing: length empty",
    "framing: length beyond 64 bits",
    "framing: coding other than one final chunked",
    "framing: unknown coding is 501",
    "framing: coding in HTTP/1.0",
    "framing: coding in two headers",
    "framing: coding with odd white space or bytes",
    "framing: named by Connection",
    "framing: body on GET, HEAD, DELETE",
    // Chunks.
    "chunk: size empty",
    "chunk: size of more than 16 digits",
    "chunk: size signed",
    "chunk: size 0x",
    "chunk: size with space",
    "chunk: extensions bounded and not forwarded",
    "chunk: CR or LF in an extension",
    "chunk: no CRLF behind the data",
    "chunk: bare LF",
    "chunk: trailers limited",
    "chunk: forbidden trailers",
    "chunk: trailers stay trailers",
    // Responses from upstream.
    "answer: body by method and status",
    "answer: at most 8 interim answers",
    "answer: 101 that nobody asked for",
    "answer: both framings are 502",
    "answer: length cut is never a clean end",
    "answer: chunk cut is never a clean end",
    // Request line and Host.
    "line: Host missing",
    "line: Host twice",
    "line: Host invalid",
    "line: absolute form overrides Host",
    "line: authority form only for CONNECT",
    "line: * only for OPTIONS",
    "line: userinfo",
    "line: fragment",
    "line: backslash",
    "line: control bytes",
    "line: bytes beyond ASCII",
    "line: %00",
    "line: version other than 1.0 and 1.1",
    "line: preface on an HTTP/1 port",
    "line: method syntax",
    // Header lines.
    "field: space before the colon",
    "field: name empty",
    "field: NUL",
    "field: bare CR",
    "field: folding",
    "field: more than 100 fields are 431",
    "field: more than 60 KiB are 431",
    // Hop by hop.
    "hop: named fields are removed",
    "hop: naming Host is 400",
    "hop: naming a framing field is 400",
    "hop: naming x-forwarded-* is 400",
    "hop: naming x-request-id is 400",
    "hop: naming traceparent is 400",
    "hop: naming x-envoy-* is 400",
    "hop: naming Cookie is 400",
    "hop: naming Authorization is 400",
    "hop: Upgrade h2c is removed",
    "hop: HTTP2-Settings is removed",
    "hop: Keep-Alive is removed",
    "hop: Proxy-Connection is removed",
    "hop: TE is reduced to trailers",
    // Edits, edge trust.
    "edit: values with CR, LF or NUL are refused",
    "edit: a path that is none is not written",
    "edge: x-envoy-* of strangers is stripped",
    "edge: x-forwarded-client-cert is stripped",
    "edge: x-tulle-* is stripped",
    "edge: lines of x-forwarded-for are one list",
    "edge: one path is matched and sent",
    "edge: underscores by option",
];

/// The same of HTTP/2.
const HTTP2_ROWS: [&str; 11] = [
    "h2: header list of more than 60 KiB",
    "h2: more than 100 fields",
    "h2: HPACK bomb",
    "h2: :authority differs from host",
    "h2: upper-case names",
    "h2: connection headers",
    "h2: :path without slash",
    "h2: CONNECT without :protocol",
    "h2: trailers with pseudo headers",
    "h2: Content-Length disagrees with DATA",
    "h2: Cookie joined on the way to HTTP/1",
];

/// Items that are a story: each is a test of its own.
const STORIES: [(&str, &str); 34] = [
    ("bytes after a complete answer", "bytes_after_an_answer_end_the_connection"),
    ("bytes on an idle connection", "bytes_after_an_answer_end_the_connection"),
    ("101 asked for and refused", "bytes_after_a_refused_upgrade_are_no_request"),
    ("TLS end without close_notify", "end_without_close_notify_is_a_cut"),
    ("one request ahead", "one_request_ahead_and_the_rest_stays_in_the_kernel"),
    ("lingering close", "lingering_close_after_an_error"),
    ("early answer", "early_answer_while_the_body_still_comes"),
    ("Expect with retry", "expectation_with_a_retry"),
    ("Expect, early final status", "expectation_that_is_refused_at_once"),
    ("Expect, HTTP/1.0", "expectation_of_http_10_is_none"),
    ("client FIN after the request", "half_closed_client_still_gets_its_answer"),
    ("slow head", "slow_head_is_answered_408"),
    ("slow head", "trickled_head_is_answered_408"),
    ("slow body", "slow_body_is_answered_408"),
    ("slow body", "trickled_body_is_answered_408"),
    ("slow reader", "slow_reader_holds_no_memory_and_is_given_up"),
    ("slow reader, local reply", "slow_reader_of_local_replies_is_given_up"),
    ("slow reader, interim answers", "slow_reader_of_interim_answers_is_given_up"),
    ("101 and a reset upstream", "a_reset_upstream_of_a_tunnel_is_a_reset"),
    ("101 and a reset downstream", "a_reset_downstream_of_a_tunnel_is_a_reset"),
    ("one byte per packet", "one_byte_per_packet"),
    ("limits before tables grow", "heads_without_end_cost_no_memory"),
    ("edits: CR, LF, NUL in configuration", "configured_values_with_line_ends_are_refused"),
    ("h2: 100 streams", "more_than_100_streams_are_refused_one_by_one"),
    ("h2: rapid reset", "rapid_reset_in_one_piece"),
    ("h2: rapid reset", "rapid_reset_stream_by_stream"),
    ("h2: CONTINUATION flood", "continuation_flood"),
    ("h2: empty DATA flood", "empty_data_flood"),
    ("h2: SETTINGS flood", "settings_flood"),
    ("h2: PING flood", "ping_flood"),
    ("h2: window 0 held", "window_of_zero_held"),
    ("h2: window 0 held, local reply", "window_of_zero_held_against_local_replies"),
    ("h2: PING not answered", "a_peer_that_answers_no_ping_is_let_go"),
    ("h2: many slow streams", "many_slow_streams"),
];

const SOURCES: [&str; 5] = [
    include_str!("attacks.rs"),
    include_str!("edge.rs"),
    include_str!("lifecycle.rs"),
    include_str!("tls.rs"),
    include_str!("held.rs"),
];

/// Every item has a row or a story, and no row is about something else.
pub fn check() {
    let tables =
        [framing::rows(), framing::chunk_rows(), answers::rows(), heads::rows(), edge_rows::rows()];
    let proved: BTreeSet<&str> = tables.iter().flatten().map(|row| row.item).collect();
    assert_eq!(proved, BTreeSet::from(ROWS));
    let proved: BTreeSet<&str> = http2::cases().iter().map(|case| case.item).collect();
    let named = BTreeSet::from(HTTP2_ROWS);
    assert_eq!(proved, named);
    for (item, test) in STORIES {
        let line = format!("#[tokio::test]\nasync fn {test}()");
        let is_there = SOURCES.iter().any(|source| source.contains(&line));
        assert!(is_there, "{item}: there is no test {test}");
    }
}
