//! placeholder

pub mod session;
