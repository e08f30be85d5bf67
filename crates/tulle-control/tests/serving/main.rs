//! The control plane from outside: real files, real sockets, what comes over the wire.

mod agent;
mod client;
mod configuration;
mod explain;
mod flood;
mod hostile;
mod neighbour;
mod registry;
mod scene;
