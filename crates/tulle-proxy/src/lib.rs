//! The data plane: one proxy beside each workload, or at the edge.

pub mod http;
