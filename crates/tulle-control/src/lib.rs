//! The control plane: a function from what people wrote and what is running to what each proxy
//! needs.
//!
//! One story, told in one direction: [`settings`] → [`ingest`] → [`store`] → [`publish`] → [`xds`].

pub mod admin;
pub mod agent;
pub mod analysis;
pub mod app;
pub mod ingest;
pub mod logs;
pub mod node;
pub mod publish;
pub mod serve;
pub mod settings;
pub mod status;
pub mod stop;
pub mod store;
pub mod world;
pub mod xds;
