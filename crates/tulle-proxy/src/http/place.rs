//! Where requests are served.
//!
//! Serving a request takes kilobytes of state, waiting for one takes next to none. So an idle
//! connection owns no place to be served at, and the task of an HTTP/2 stream is not made with one;
//! each takes a place from its worker when its request begins, and gives it back with the answer.
//! A place is one long-lived future that serves one after the other: in steady state it is never
//! allocated, and never moved.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::free_list::FreeList;
use crate::worker::Clock;

/// A worker's free places, which take an `I` and give back an `O`.
pub struct PlacePool<I, O> {
    free: FreeList<Place<I, O>>,
}

impl<I: 'static, O: 'static> PlacePool<I, O> {
    /// Has `work`, which is the same for all of a pool, done to what `arrived`. Each of its turns
    /// begins with a look at the clock.
    pub async fn serve<W>(&self, clock: &Clock, work: W, arrived: I) -> O
    where
        W: AsyncFn(I) -> O + 'static,
    {
        let mut place = self.free.take().unwrap_or_else(|| Place::new(work));
        let served = place.serve(clock, arrived).await;
        self.free.give(place);
        served
    }

    /// Gives back what a burst left over.
    pub fn trim(&self) {
        self.free.trim();
    }
}

/// One place. It is dropped with what it serves when serving is cancelled or panics.
struct Place<I, O> {
    counter: Rc<Counter<I, O>>,
    serving: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// Where it is handed in and out.
struct Counter<I, O> {
    arrived: Cell<Option<I>>,
    served: Cell<Option<O>>,
}

impl<I: 'static, O: 'static> Place<I, O> {
    fn new(work: impl AsyncFn(I) -> O + 'static) -> Self {
        let counter = Rc::new(Counter { arrived: Cell::new(None), served: Cell::new(None) });
        let serving = Box::pin(one_after_the_other(Rc::clone(&counter), work));
        Self { counter, serving }
    }

    async fn serve(&mut self, clock: &Clock, arrived: I) -> O {
        self.counter.arrived.set(Some(arrived));
        poll_fn(|cx| {
            clock.tick();
            match self.serving.as_mut().poll(cx) {
                Poll::Ready(never) => match never {},
                Poll::Pending => match self.counter.served.take() {
                    Some(served) => Poll::Ready(served),
                    None => Poll::Pending,
                },
            }
        })
        .await
    }
}

async fn one_after_the_other<I, O>(
    counter: Rc<Counter<I, O>>,
    work: impl AsyncFn(I) -> O,
) -> Infallible {
    loop {
        let arrival = poll_fn(|_| match counter.arrived.take() {
            Some(arrived) => Poll::Ready(arrived),
            // Whoever hands one in polls afterwards.
            None => Poll::Pending,
        });
        let served = work(arrival.await).await;
        counter.served.set(Some(served));
    }
}

impl<I, O> Default for PlacePool<I, O> {
    fn default() -> Self {
        Self { free: FreeList::default() }
    }
}

impl<I, O> fmt::Debug for PlacePool<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacePool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    async fn measured(clock: Rc<Clock>) -> Duration {
        let begun = clock.now();
        tokio::time::sleep(PAUSE).await;
        clock.now() - begun
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_turn_begins_with_a_look_at_the_clock_and_places_are_kept() {
        let (pool, clock) = (PlacePool::default(), Rc::new(Clock::default()));
        for _ in 0..2 {
            assert!(pool.serve(&clock, measured, Rc::clone(&clock)).await >= PAUSE);
            assert_eq!(pool.free.len(), 1);
        }
    }
}
