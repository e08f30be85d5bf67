//! The nouns of the mesh and the pure decisions over them.
//!
//! Everything that another crate passes to its neighbour is a value of this crate: what the
//! control plane computes, what xDS carries, what the proxy obeys and what `tulle explain`
//! prints. No I/O, no clock, no runtime, no wire format.
//!
//! Reading order: [`name`] and [`origin`] (what things are called and where they come from) →
//! [`head`] (one message) → [`listener`] → [`http`] → [`route`] → [`cluster`] (what is
//! configured) → [`snapshot`] (all of it, as one value) → [`decide`] (what is done with it) →
//! [`flag`] (how it ended).

pub mod access_log;
pub mod address;
pub mod cluster;
pub mod decide;
pub mod flag;
pub mod head;
pub mod header_edit;
pub mod http;
pub mod listener;
pub mod lookup;
pub mod matcher;
pub mod name;
pub mod origin;
pub mod resource;
pub mod retry;
pub mod route;
pub mod snapshot;
pub mod tls;
pub mod trace;
