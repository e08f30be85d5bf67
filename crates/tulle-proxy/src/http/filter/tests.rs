//! Probes in the place of filters, real sockets on both sides.

mod bodies;
mod chain;
mod ends;
mod message;
pub mod probe;
mod rig;
