//! xDS v3, the wire between control plane and proxy: messages, and what turns them into the model.

pub mod decode;
pub mod driver;
pub mod encode;
pub mod fields;
pub mod json;
pub mod proto;
pub mod render;
pub mod session;
pub mod source;
