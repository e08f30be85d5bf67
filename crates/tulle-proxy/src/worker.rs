//! One worker: a thread with its own runtime, configuration copy, pools and counters.
//!
//! Nothing in here is shared with another worker but what [`crate::shared`] counts (design D1).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tulle_identity::{ServerTls, TlsConfigs};
use tulle_model::name::Direction;
use tulle_model::tls::DownstreamTls;
use tulle_runtime::drain::View;
use tulle_runtime::drain::load::{LoadMeter, LoadReader};

use crate::access_log::sinks::WorkerLogs;
use crate::app::reports::Reporter;
use crate::buffer::BufferPool;
use crate::http::h1_server::place::PlacePool;
use crate::http::heads::HeadPool;
use crate::listener::inspect::peek::Scratch;
use crate::listener::presence::Presences;
use crate::metrics::WorkerMetrics;
use crate::store::Store;
use crate::upstream::Upstreams;

/// What everything on one worker uses.
#[derive(Debug)]
pub struct Worker {
    /// Its number, from 0.
    pub index: usize,
    /// The configuration.
    pub store: Store,
    /// Clusters, endpoints, their connections.
    pub upstreams: Upstreams,
    /// Connections and requests under way.
    pub load: LoadMeter,
    /// Buffers.
    pub buffers: BufferPool,
    /// Heads.
    pub heads: HeadPool,
    /// Where requests of HTTP/1 connections are served.
    pub places: PlacePool,
    /// Room to look at first bytes.
    pub scratch: Scratch,
    /// The time of day.
    pub clock: Clock,
    /// Draining.
    pub drain: DrainView,
    /// Listeners that connections are handed over to.
    pub presences: Presences,
    /// Connections of others to the workload.
    pub inbound: InboundCount,
    /// Connections that are dialled early and on which nobody has spoken.
    pub undecided: Rc<Cell<usize>>,
    /// Access logs.
    pub logs: WorkerLogs,
    /// What is counted.
    pub metrics: Rc<WorkerMetrics>,
    /// Where the control thread hears of it.
    pub reports: Reporter,
    /// Whether this is a sidecar or gateway, and not in Envoy's place.
    pub in_mesh: bool,
    tls: RefCell<TlsConfigs>,
    random: Cell<u64>,
    connections: Cell<u64>,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerParts {
    /// Its number, from 0.
    pub index: usize,
    /// The configuration.
    pub store: Store,
    /// Clusters, endpoints, their connections.
    pub upstreams: Upstreams,
    /// TLS configurations.
    pub tls: TlsConfigs,
    /// Where its load is counted.
    pub load: LoadReader,
    /// Access logs.
    pub logs: WorkerLogs,
    /// What is counted.
    pub metrics: Rc<WorkerMetrics>,
    /// Where the control thread hears of it.
    pub reports: Reporter,
    /// Whether this is a sidecar or gateway, and not in Envoy's place.
    pub in_mesh: bool,
    /// Where its random numbers start.
    pub seed: u64,
}

impl Worker {
    /// A worker of these parts.
    #[must_use]
    pub fn new(parts: WorkerParts) -> Rc<Self> {
        let WorkerParts {
            index,
            store,
            upstreams,
            tls,
            load,
            logs,
            metrics,
            reports,
            in_mesh,
            seed,
        } = parts;
        Rc::new(Self {
            index,
            store,
            upstreams,
            load: LoadMeter::new(load),
            buffers: BufferPool::default(),
            heads: HeadPool::default(),
            places: PlacePool::default(),
            scratch: Scratch::default(),
            clock: Clock::default(),
            drain: DrainView::default(),
            presences: Presences::default(),
            inbound: InboundCount::default(),
            undecided: Rc::default(),
            logs,
            metrics,
            reports,
            in_mesh,
            tls: RefCell::new(tls),
            random: Cell::new(seed),
            connections: Cell::new(0),
        })
    }

    /// 64 random bits (SplitMix64: good enough to choose by, of no use as a secret).
    #[must_use]
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Whether an idle connection of this direction is to be closed now.
    #[must_use]
    pub fn closes_idle(&self, direction: Direction) -> bool {
        let view = self.drain.view();
        let in_use = direction == Direction::Outbound && self.inbound.any();
        view.cut || (view.close_idle && !in_use)
    }

    /// Whether a connection is to be told to go away with the answer it is about to send, because
    /// the process ends or its listener, which `listener` is seen of.
    #[must_use]
    pub fn tells_to_go(&self, listener: &View) -> bool {
        [&self.drain.view(), listener].into_iter().any(|view| {
            *view != View::SERVING && view.tells_to_go(Instant::now(), self.random() as u32)
        })
    }

    /// What a filter chain's TLS was built to; `None` if it could not be built.
    #[must_use]
    pub fn server_tls(&self, tls: &Arc<DownstreamTls>) -> Option<Arc<ServerTls>> {
        self.tls.borrow().server(tls).cloned()
    }

    /// Replaces the TLS configurations.
    pub fn set_tls(&self, tls: &TlsConfigs) {
        *self.tls.borrow_mut() = tls.clone();
    }

    /// Takes note of a connection or stream that panicked.
    pub fn panicked(&self) {
        self.metrics.worker.panics().inc();
        self.reports.panicked();
    }

    /// A number for a new connection, unique in the process.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        let next = self.connections.get() + 1;
        self.connections.set(next);
        (self.index as u64) << 48 | next
    }
}

/// How far the end of this process has come, as connections see it.
#[derive(Debug)]
pub struct DrainView {
    view: Cell<View>,
    changed: Notify,
}

impl Default for DrainView {
    fn default() -> Self {
        Self { view: Cell::new(View::SERVING), changed: Notify::new() }
    }
}

impl DrainView {
    /// Tells every connection.
    pub fn set(&self, view: View) {
        self.view.set(view);
        self.changed.notify_waiters();
    }

    /// Has everybody look again, because something that they look at beside the view changed.
    pub fn look_again(&self) {
        self.changed.notify_waiters();
    }

    /// The view now.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.get()
    }

    /// Comes back when `reached` holds of the view.
    pub async fn wait_until(&self, reached: impl Fn(&View) -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached(&self.view.get()) {
                return;
            }
            changed.await;
        }
    }
}

/// Connections of others to the workload. While there are any, the application may be at work and
/// call others: its own idle connections to this proxy are not closed under it.
#[derive(Debug, Default)]
pub struct InboundCount(Rc<Cell<usize>>);

impl InboundCount {
    /// Counts a connection for as long as the guard lives.
    #[must_use]
    pub fn enter(&self) -> InboundGuard {
        self.0.set(self.0.get() + 1);
        InboundGuard(Rc::clone(&self.0))
    }

    /// Whether there are any.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.get() > 0
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct InboundGuard(Rc<Cell<usize>>);

impl Drop for InboundGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The time of day, formatted once a second.
#[derive(Debug)]
pub struct Clock {
    date: RefCell<(u64, [u8; 29])>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { date: RefCell::new((u64::MAX, [0; 29])) }
    }
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The time now as a `date` header writes it (RFC 9110 §5.6.7).
    #[must_use]
    pub fn http_date(&self) -> [u8; 29] {
        let now = self.now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut date = self.date.borrow_mut();
        if date.0 != second {
            let text = httpdate::fmt_http_date(now);
            if let Ok(bytes) = text.as_bytes().try_into() {
                *date = (second, bytes);
            }
        }
        date.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_http_dates() {
        let clock = Clock::default();
        let date = clock.http_date();
        let text = std::str::from_utf8(&date).expect("ASCII");
        let read = httpdate::parse_http_date(text).expect("a date");
        assert!(clock.now().duration_since(read).expect("not in the future").as_secs() < 5);
    }
}
