//! The data plane of Tulle: listens, decides, forwards, records.

pub mod app;
pub mod listener;
pub mod settings;
