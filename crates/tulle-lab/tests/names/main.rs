//! Which name decides (design D6), against real processes: requests whose Host says something else
//! than the address that was dialled, and callers that invent hosts. Needs root.
//!
//! Plain text only: there is no mutual TLS between sidecars yet.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod flood;
mod forged;
mod mesh;
