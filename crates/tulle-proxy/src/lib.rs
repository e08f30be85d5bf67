//! The data plane of Tulle: listens, decides, forwards, records.

pub mod access_log;
pub mod app;
pub mod listener;
pub mod metrics;
pub mod settings;
