//! The control plane: a function from what people wrote and what is running to what each proxy
//! needs.
//!
//! One story, told in one direction: [`settings`] → [`ingest`] → [`store`].

pub mod ingest;
pub mod settings;
pub mod store;
