//! Session cores on a real network: the thin parts that need tokio and tonic.
//!
//! * [`wire`]: messages of the cores and messages of the wire, one to one, for both sides.
//! * [`variant`]: the two protocol variants as a client calls them.
//! * [`dial`]: how a server is reached.
//! * [`link`]: one connection to a server, dialled, open or lost.
//! * [`client`]: the loop that carries messages between a link, a core and its application.
//!
//! The server's loop lives with what it serves, in the control plane.

pub mod client;
pub mod dial;
pub mod link;
pub mod variant;
pub mod wire;
