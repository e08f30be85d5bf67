//! Where `tulle-proxy` differs from Envoy on purpose. At most ten, each with its reason.

/// Rows whose transcripts may differ, and why that is better.
pub const DELIBERATE: [(&str, &str); 0] = [];

/// More deliberate differences than this are no longer deliberate.
pub const LIMIT: usize = 10;
