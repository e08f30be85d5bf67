//! What becomes of panics: caught at the connection that they happened in, reported, counted; when
//! they come too often the process gives up in good order (design D1).
//!
//! A panic is a mistake of ours. One connection ends by it; the others do not. But a process that
//! panics again and again may be worse than none: three in a minute and it drains and exits, so
//! that whoever watches over it starts a new one.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// So many panics within [`PANIC_WINDOW`] end the process.
pub const MAX_PANICS: usize = 3;
/// The time within which panics are counted together.
pub const PANIC_WINDOW: Duration = Duration::from_secs(60);

/// Runs a future and catches what it panics with.
///
/// The future is not polled again after a panic; dropping it closes what it held. It takes a pinned
/// reference, so that the future of a connection is stored once and not copied:
///
/// ```
/// # async fn serve() -> u8 { 7 }
/// # async fn task() {
/// let connection = std::pin::pin!(serve());
/// match tulle_runtime::panic::catch(connection).await {
///     Ok(served) => assert_eq!(served, 7),
///     Err(panicked) => tracing::error!("the connection panicked: {panicked}"),
/// }
/// # }
/// ```
pub fn catch<F: Future>(future: Pin<&mut F>) -> CatchPanic<'_, F> {
    CatchPanic { future }
}

/// The future of [`catch`].
#[derive(Debug)]
pub struct CatchPanic<'a, F> {
    future: Pin<&'a mut F>,
}

impl<F: Future> Future for CatchPanic<'_, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // What a panic leaves behind is only ever dropped: the future is not polled again, and
        // workers keep no invariant broken across an await.
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context)));
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(Panicked::of(payload.as_ref()))),
        }
    }
}

/// A panic that was caught; the hook has reported where it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Panicked {
    /// What it said.
    pub message: String,
}

impl Panicked {
    fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self { message: text.unwrap_or_else(|| "no message".to_owned()) }
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Decides what panics do to the process.
#[derive(Debug, Default)]
pub struct PanicPolicy {
    recent: VecDeque<Instant>,
}

/// What a panic does to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing more: its connection has ended.
    GoOn,
    /// Not ready any more, drain, exit with a failure.
    GiveUp,
}

impl PanicPolicy {
    /// Takes note of a panic at `now`.
    pub fn note(&mut self, now: Instant) -> Verdict {
        self.recent.push_back(now);
        while self.recent.len() > MAX_PANICS {
            self.recent.pop_front();
        }
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) <= PANIC_WINDOW;
        let together = self.recent.iter().filter(|at| is_recent(at)).count();
        if together >= MAX_PANICS { Verdict::GiveUp } else { Verdict::GoOn }
    }
}

/// Has panics logged, with their place, as one event each and not as text on stderr.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let message = Panicked::of(panic.payload());
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let trace = std::backtrace::Backtrace::capture();
        match trace.status() {
            std::backtrace::BacktraceStatus::Captured => {
                tracing::error!(%place, thread, %trace, "panic: {message}");
            }
            _ => tracing::error!(%place, thread, "panic: {message}"),
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test]
    async fn a_panic_ends_its_future_and_nothing_else() {
        struct Guard<'a>(&'a std::cell::Cell<bool>);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = std::cell::Cell::new(false);
        let caught = {
            let connection = pin!(async {
                let _guard = Guard(&dropped);
                tokio::task::yield_now().await;
                panic!("broken {}", 7);
            });
            catch(connection).await.map(|(): ()| ())
        };
        assert_eq!(caught, Err(Panicked { message: "broken 7".to_owned() }));
        assert!(dropped.get(), "what the connection held is closed");
        assert_eq!(catch(pin!(async { 5 })).await, Ok(5));
    }

    #[test]
    fn catching_stores_the_future_once() {
        let big = async {
            let buffer = [1u8; 4096];
            std::future::ready(()).await;
            assert_eq!(buffer[7], 1);
        };
        let alone = size_of_val(&big);
        drop(big);
        let caught = async {
            let big = pin!(async {
                let buffer = [1u8; 4096];
                std::future::ready(()).await;
                assert_eq!(buffer[7], 1);
            });
            catch(big).await.is_ok()
        };
        assert!(size_of_val(&caught) < alone + 256, "{} over {alone}", size_of_val(&caught));
    }

    #[test]
    fn three_a_minute_are_too_many() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut policy = PanicPolicy::default();
        for (seconds, expected) in [
            (0, Verdict::GoOn),
            (30, Verdict::GoOn),
            (61, Verdict::GoOn),
            (91, Verdict::GoOn),
            (100, Verdict::GiveUp),
            (101, Verdict::GiveUp),
        ] {
            assert_eq!(policy.note(at(seconds)), expected, "at {seconds} s");
        }
    }
}
