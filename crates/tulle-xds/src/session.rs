//! The xDS transport protocol as state machines without I/O.
//!
//! Place in the story: `control::publish` → **session (server side)** ⇢ wire ⇢ **session (client
//! side)** → `model::Snapshot`. Nothing here reads a socket or a clock: a driver feeds events and
//! the time in, and carries the returned messages out, so that the simulation in
//! `tests/simulation.rs` runs the very same code under a virtual clock.
//!
//! * [`message`]: the requests and responses of both protocol variants, free of generated code.
//! * [`client`]: what both client cores share: events, actions, answers, back-off.
//! * [`delta_client`], [`sotw_client`]: one ADS stream as a client sees it, kept over reconnects.
//! * [`graph`]: which resource refers to which, and what may be shown when (warming).
//! * [`on_demand`]: a client core and a graph joined: names are asked for when they are needed.
//! * [`server`], [`delta_server`], [`sotw_server`]: one ADS stream as a server sees it.
//! * [`gate`]: make before break: which type may be sent or removed while which other waits.
//!
//! The rules come from Envoy's `xds_protocol.rst` and the comments in `discovery.proto`.

pub mod client;
pub mod delta_client;
pub mod delta_server;
pub mod gate;
pub mod graph;
mod interest;
pub mod message;
mod new_names;
pub mod on_demand;
pub mod server;
pub mod sotw_client;
pub mod sotw_server;
mod wanting;
