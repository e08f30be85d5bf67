//! Connections that wait for their next request: the one used last is taken first, so that those
//! that a burst left behind grow old and are closed.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

/// Connections kept at most.
const LIMIT: usize = 1000;
/// How long one is kept.
const TIME: Duration = Duration::from_secs(3);

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection<T> {
    opened: Instant,
    /// What it is.
    pub inner: T,
}

impl<T> Connection<T> {
    /// One that was opened now.
    pub(super) fn new(inner: T) -> Self {
        Self { opened: Instant::now(), inner }
    }
}

/// A stack of connections, each with the time since when it is idle.
#[derive(Debug)]
pub(super) struct Idle<T>(RefCell<Vec<(Instant, Connection<T>)>>);

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Idle<T> {
    /// The connection for a request; for one that opens a new one none, and the one that has been
    /// open longest is closed.
    pub(super) fn take(&self, fresh: bool) -> Option<Connection<T>> {
        let idle = &mut *self.0.borrow_mut();
        let old = idle.iter().take_while(|(since, _)| since.elapsed() > TIME).count();
        idle.drain(..old);
        if !fresh {
            return idle.pop().map(|(_, connection)| connection);
        }
        let places = idle.iter().enumerate();
        let oldest = places.min_by_key(|(_, (_, connection))| connection.opened);
        if let Some((place, _)) = oldest {
            idle.remove(place);
        }
        None
    }

    /// Keeps a connection, unless there are enough.
    pub(super) fn put(&self, connection: Connection<T>) {
        let idle = &mut *self.0.borrow_mut();
        if idle.len() < LIMIT {
            idle.push((Instant::now(), connection));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Connection, Idle, LIMIT, TIME};

    fn taken(idle: &Idle<usize>, fresh: bool) -> Option<usize> {
        idle.take(fresh).map(|connection| connection.inner)
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_used_last_is_taken_and_who_waits_too_long_is_closed() {
        let idle = Idle::default();
        idle.put(Connection::new(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        idle.put(Connection::new(2));
        idle.put(Connection::new(3));
        assert_eq!(taken(&idle, false), Some(3));
        tokio::time::advance(TIME - Duration::from_millis(500)).await;
        assert_eq!(taken(&idle, false), Some(2), "the first is too old and gone");
        assert_eq!(taken(&idle, false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_one_takes_the_place_of_the_one_opened_first() {
        let idle = Idle::default();
        idle.put(Connection::new(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        idle.put(Connection::new(2));
        let first = idle.take(false).zip(idle.take(false)).map(|(two, one)| {
            idle.put(two);
            one
        });
        idle.put(first.expect("both were there"));
        assert_eq!(taken(&idle, true), None);
        assert_eq!(taken(&idle, false), Some(2), "the first was used last and is gone");
        assert_eq!(taken(&idle, true), None, "of nothing");
    }

    #[test]
    fn there_is_an_end() {
        let idle = Idle::default();
        (0..2 * LIMIT).for_each(|number| idle.put(Connection::new(number)));
        let left: Vec<usize> = std::iter::from_fn(|| taken(&idle, false)).collect();
        assert_eq!(left, (0..LIMIT).rev().collect::<Vec<_>>());
    }
}
