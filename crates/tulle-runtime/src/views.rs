//! The JSON that admin servers write and the command line reads, as types that both share.
//!
//! [`proxies`] is what the control plane knows of each proxy; [`config`] makes rows for people out
//! of a proxy's `/config_dump`.

pub mod config;
pub mod proxies;

#[cfg(test)]
mod tests;
