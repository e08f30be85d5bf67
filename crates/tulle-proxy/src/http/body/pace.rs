//! A body that is let through so many bytes a second.

use std::num::NonZeroU64;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::{Body, Piece};
use crate::http::codec::abort::Abort;
use crate::timer::Timer;

/// How long is waited when all that may pass has passed, as in Envoy's `StreamRateLimiter`.
const SLICE: Duration = Duration::from_millis(50);

/// Lets bytes through at a rate.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second; as many may pass at once after a silence.
    rate: u64,
    /// Bytes that may pass now.
    allowed: u64,
    /// When that was counted.
    counted: Instant,
    /// Of what the source brought last: what was passed on before, and what is being passed on.
    piece: std::ops::Range<usize>,
    timer: Timer,
}

impl Pace {
    /// So many KiB a second.
    #[must_use]
    pub fn new(kib_per_second: NonZeroU64) -> Self {
        let rate = kib_per_second.get().saturating_mul(1024);
        let first = per(rate, SLICE);
        Self { rate, allowed: first, counted: Instant::now(), piece: 0..0, timer: Timer::default() }
    }

    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Body<'_>,
    ) -> Poll<Result<Piece, Abort>> {
        self.piece.start = self.piece.end;
        if self.piece.end == source.data().len() {
            self.piece = 0..0;
            let piece = ready!(source.poll_next(cx))?;
            if piece != Piece::Data {
                return Poll::Ready(Ok(piece));
            }
        }
        while self.allowed == 0 {
            ready!(self.timer.poll(cx, self.counted + SLICE));
            self.count();
        }
        let here = source.data().len() - self.piece.end;
        let passing = usize::try_from(self.allowed).unwrap_or(usize::MAX).min(here);
        self.allowed -= passing as u64;
        self.piece.end += passing;
        Poll::Ready(Ok(Piece::Data))
    }

    pub(super) fn data<'b>(&self, source: &'b Body<'_>) -> &'b [u8] {
        &source.data()[self.piece.clone()]
    }

    fn count(&mut self) {
        let now = Instant::now();
        self.allowed = per(self.rate, now - self.counted).clamp(1, self.rate);
        self.counted = now;
    }
}

#[cfg(test)]
mod tests;

/// How much that is at `rate` a second.
fn per(rate: u64, time: Duration) -> u64 {
    let amount = u128::from(rate) * time.as_millis() / 1000;
    u64::try_from(amount).unwrap_or(u64::MAX)
}
