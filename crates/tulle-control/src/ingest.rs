//! Ingest: where configuration comes from. Each source publishes its newest whole value; nobody
//! downstream sees edges, so that a slow reader misses nothing but the steps between.
//!
//! [`files`] (directories of objects) and [`registry`] (workloads that register themselves).

pub mod files;
pub mod registry;
