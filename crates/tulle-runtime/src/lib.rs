//! What every long-running process of Tulle stands on: sockets that outlive reloads, draining,
//! readiness, what becomes of panics, logs, metrics, the admin server.
//!
//! Nothing here knows what a proxy or a control plane does. Reading order follows the life of a
//! process: [`logging`] → [`sockets`] → [`readiness`] → [`telemetry`] and [`admin`] while it
//! serves → [`panic`] when something goes wrong → [`drain`] when it ends. [`views`] are the JSON
//! that the admin servers write and the command line reads; [`sink`] takes lines to where they
//! are kept.

pub mod admin;
pub mod drain;
pub mod logging;
pub mod panic;
pub mod readiness;
pub mod sink;
pub mod sockets;
pub mod telemetry;
pub mod views;
