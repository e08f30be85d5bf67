//! The demonstration: a small mesh of real processes, each step of it checked.

pub mod app;
