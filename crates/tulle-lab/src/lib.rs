//! The laboratory: what the tests stand on. Real processes at real sockets, peers that behave
//! and peers that don't, the stock Envoy as oracle, and the rules the source tree obeys.
//! Nothing here is shipped.
//!
//! A test takes what it needs from top to bottom: a [`process`] with [`ports`] of its own,
//! [`backend`]s that answer by script and remember what they received, [`client`]s that write
//! exact bytes and say exactly what came back; where addresses matter, each of them in a network
//! namespace of its own ([`netns`]). Whole meshes are [`explicit`] or [`redirected`]. The
//! [`oracle`] puts its peers around two proxies and holds what it saw of both together.

pub mod backend;
pub mod client;
pub mod deadline;
pub mod envoy;
pub mod explicit;
pub mod load;
pub mod message;
pub mod netns;
pub mod oracle;
pub mod ports;
pub mod process;
pub mod redirected;
pub mod tidy;
