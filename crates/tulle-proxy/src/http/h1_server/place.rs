//! Where requests of HTTP/1 connections are served.
//!
//! Serving a request takes kilobytes of state, waiting for one takes next to none. So an idle
//! connection owns no place to be served at; it takes one from its worker when a request begins,
//! and gives it back with the answer. A place is one long-lived future that serves a connection
//! after the other: in steady state it is never allocated.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use super::H1Connection;

/// Places a worker keeps for reuse.
const KEPT_PLACES: usize = 256;

/// A worker's free places.
#[derive(Debug, Default)]
pub struct PlacePool {
    free: RefCell<Vec<Place>>,
}

impl PlacePool {
    /// Serves the request that begins at `connection`, and comes back with the connection.
    pub async fn serve(&self, connection: Box<H1Connection>) -> Box<H1Connection> {
        let mut place = self.free.borrow_mut().pop().unwrap_or_else(Place::new);
        let connection = place.serve(connection).await;
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT_PLACES {
            free.push(place);
        }
        connection
    }
}

/// One place. It is dropped with what it serves when serving is cancelled or panics.
struct Place {
    counter: Rc<Counter>,
    serving: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// Where connections are handed in and out.
#[derive(Default)]
struct Counter {
    arrived: Cell<Option<Box<H1Connection>>>,
    served: Cell<Option<Box<H1Connection>>>,
}

impl Place {
    fn new() -> Self {
        let counter = Rc::new(Counter::default());
        let serving = Box::pin(one_after_the_other(Rc::clone(&counter)));
        Self { counter, serving }
    }

    async fn serve(&mut self, connection: Box<H1Connection>) -> Box<H1Connection> {
        self.counter.arrived.set(Some(connection));
        poll_fn(|cx| match self.serving.as_mut().poll(cx) {
            Poll::Ready(never) => match never {},
            Poll::Pending => match self.counter.served.take() {
                Some(connection) => Poll::Ready(connection),
                None => Poll::Pending,
            },
        })
        .await
    }
}

async fn one_after_the_other(counter: Rc<Counter>) -> Infallible {
    loop {
        let arrival = poll_fn(|_| match counter.arrived.take() {
            Some(connection) => Poll::Ready(connection),
            // Whoever hands one in polls afterwards.
            None => Poll::Pending,
        });
        let mut connection = arrival.await;
        connection.serve_request().await;
        counter.served.set(Some(connection));
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
