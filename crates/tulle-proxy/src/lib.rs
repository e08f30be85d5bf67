//! The data plane: one proxy beside each workload, or at the edge.
//!
//! The request story is the module order: [`listener`] (accept) → [`connection`] (which listener,
//! chain, TLS) → [`tcp`] or [`http`] → [`upstream`] → [`record`]. The configuration story ends
//! here: [`configuration`] (control thread) → [`store`] (each worker's copy). [`app`] puts the
//! parts together.

pub mod access_log;
pub mod admin;
pub mod agent;
pub mod app;
pub mod buffer;
pub mod configuration;
pub mod connection;
pub mod discovery;
pub mod free_list;
pub mod http;
pub mod io;
pub mod listener;
pub mod metrics;
pub mod record;
pub mod settings;
pub mod shared;
pub mod store;
pub mod tcp;
pub mod timer;
pub mod upstream;
pub mod worker;
