//! Where `tulle-proxy` differs from Envoy on purpose. At most ten, each with its reason.

/// Rows whose transcripts may differ, and why that is better.
pub const DELIBERATE: [(&str, &str); 3] = [
    ("interim-hints", "interim responses are passed on, as RFC 9110 §15.2 asks; Envoy drops them"),
    (
        "upstream-101-unasked",
        "a switch of protocols that nobody asked for is a protocol error, not an answer",
    ),
    ("tcp-client-reset", "a reset is passed on as a reset; Envoy ends the upstream in good order"),
];

/// More deliberate differences than this are no longer deliberate.
pub const LIMIT: usize = 10;
