//! The data plane: one proxy beside each workload, or at the edge.

pub mod buffer;
pub mod http;
pub mod io;
pub mod shared;
pub mod tcp;
pub mod upstream;
