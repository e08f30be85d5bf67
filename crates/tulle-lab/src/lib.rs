//! The laboratory: what the tests stand on. Real processes at real sockets, peers that behave
//! and peers that don't, the stock Envoy as oracle, and the rules the source tree obeys.
//! Nothing here is shipped.

pub mod tidy;
