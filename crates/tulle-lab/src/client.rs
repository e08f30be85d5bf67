//! Peers on the downstream side: they send exactly what a test says and report exactly what came
//! back, the state of the connection included.

pub mod frames;
pub mod http1;
pub mod http2;
pub mod tcp;
pub mod tls_hello;
pub mod websocket;
