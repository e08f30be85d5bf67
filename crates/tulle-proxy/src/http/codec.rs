//! Between bytes and messages.

pub mod h1;
