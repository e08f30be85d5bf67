//! HTTP between a downstream and an upstream.

pub mod codec;
