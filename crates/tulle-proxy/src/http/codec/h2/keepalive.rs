//! Asks the other end of an HTTP/2 connection whether it is still there (RFC 9113 §6.7), as
//! configured (`connection_keepalive`): a peer that vanished without a word sends no end.

use std::future::pending;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};
use tulle_model::http::Http2Keepalive;

/// Comes back when the other end did not answer in time; never where nobody is to ask.
pub async fn lost(pings: Option<PingPong>, settings: Option<Http2Keepalive>) {
    let (Some(mut pings), Some(settings)) = (pings, settings) else { return pending().await };
    loop {
        sleep(settings.interval).await;
        match timeout(settings.timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection has ended, which its driver notices itself.
            Ok(Err(_)) => return pending().await,
            Err(_) => return,
        }
    }
}
