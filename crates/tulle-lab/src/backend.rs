//! Peers on the upstream side: they answer by script and remember what they received.

pub mod http1;
pub mod http2;
pub mod tcp;
