//! The data plane.

pub mod io;
