//! Ingest: where configuration comes from. Each source publishes its newest whole value; nobody
//! downstream sees edges, so that a slow reader misses nothing but the steps between.
//!
//! [`files`] (directories) → [`objects`] (what they say, last good) and [`registry`] (workloads
//! that register themselves).

pub mod files;
pub mod objects;
pub mod registry;
