//! Between bytes and messages.

pub mod abort;
pub mod h1;
pub mod h2;
