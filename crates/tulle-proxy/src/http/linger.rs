//! The last moments of a downstream connection: its peer is to see the answer and not a reset.
//!
//! A close with bytes unread makes the system send a reset, which may overtake what was written
//! (RFC 9112 §9.6; for HTTP/2 it would be the GOAWAY that is lost).

use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::ReadBuffer;
use crate::http::context::HttpContext;
use crate::io::Io;
use crate::timer::Timer;

/// Bytes that are still read from a peer after the last answer.
const LINGER_BYTES: usize = 256 * 1024;
/// Longest time for it, whatever `delayed_close_timeout` says.
const LONGEST: Duration = Duration::from_secs(30);

/// Ends this side, then reads on for a while and throws it away.
pub async fn linger(cx: &HttpContext, io: &Io, buffer: &mut ReadBuffer, timer: &mut Timer) {
    let limit = cx.manager.timeouts.delayed_close;
    if limit.is_zero() {
        return;
    }
    let deadline = Some(Instant::now() + limit.min(LONGEST));
    // Over TLS the end is written, and a peer that does not read leaves no room for it.
    let ended = tokio::select! {
        biased;
        ended = io.shutdown() => ended.is_ok(),
        () = timer.wait(deadline) => false,
    };
    if !ended {
        return;
    }
    let mut left = LINGER_BYTES;
    loop {
        buffer.consume(buffer.unread().len());
        let read = tokio::select! {
            biased;
            read = buffer.fill(io, &cx.worker.buffers) => read,
            () = timer.wait(deadline) => break,
        };
        match read {
            Ok(count) if count > 0 && count < left => left -= count,
            _ => break,
        }
    }
    buffer.consume(buffer.unread().len());
    buffer.release(&cx.worker.buffers);
}
