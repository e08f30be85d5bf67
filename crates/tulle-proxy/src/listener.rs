//! Where connections come in.

pub mod inspect;
pub mod original_dst;
pub mod socket;
