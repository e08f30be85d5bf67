//! One worker: a thread with its own runtime, configuration copy, pools and counters.
//!
//! Nothing in here is shared with another worker but what [`crate::shared`] counts (design D1).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;
use tulle_identity::{ServerTls, TlsConfigs};
use tulle_model::name::Direction;
use tulle_model::tls::DownstreamTls;
use tulle_runtime::drain::View;
use tulle_runtime::drain::load::{LoadMeter, LoadReader};

use crate::access_log::sinks::WorkerLogs;
use crate::app::reports::Reporter;
use crate::buffer::BufferPool;
use crate::http::h1_server::H1Connection;
use crate::http::h2_server::Stream;
use crate::http::heads::HeadPool;
use crate::http::place::PlacePool;
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
    pub places: PlacePool<Box<H1Connection>, Box<H1Connection>>,
    /// Where HTTP/2 streams are served.
    pub stream_places: PlacePool<Stream, bool>,
    /// Room to look at first bytes.
    pub scratch: Scratch,
    /// The time.
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
            stream_places: PlacePool::default(),
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
            *view != View::SERVING
                && view.tells_to_go(Instant::now().into_std(), self.random() as u32)
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

    /// Gives back what a burst left over of what is kept to be used again.
    pub fn trim(&self) {
        self.buffers.trim();
        self.heads.trim();
        self.places.trim();
        self.stream_places.trim();
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
    bell: Rc<Bell>,
}

impl Default for DrainView {
    fn default() -> Self {
        Self { view: Cell::new(View::SERVING), changed: Notify::new(), bell: Rc::default() }
    }
}

impl DrainView {
    /// Tells every connection.
    pub fn set(&self, view: View) {
        self.view.set(view);
        self.look_again();
    }

    /// Has everybody look again, because something that they look at beside the view changed.
    pub fn look_again(&self) {
        self.changed.notify_waiters();
        self.bell.ring();
    }

    /// For a task that waits again and again: it is heard of once, not each time that it waits.
    #[must_use]
    pub fn listen(&self) -> Ear {
        Ear::new(&self.bell)
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

/// Tasks that are woken when something changed.
#[derive(Debug, Default)]
struct Bell {
    /// By place; `None` where nobody listens, or not yet.
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Bell {
    fn ring(&self) {
        let wakers: Vec<_> = self.wakers.borrow().iter().flatten().cloned().collect();
        wakers.iter().for_each(Waker::wake_by_ref);
    }
}

/// The place of one task at a bell, until it is dropped.
#[derive(Debug)]
pub struct Ear {
    bell: Rc<Bell>,
    place: usize,
    waker: Option<Waker>,
}

impl Ear {
    fn new(bell: &Rc<Bell>) -> Self {
        let place = bell.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut wakers = bell.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        Self { bell: Rc::clone(bell), place, waker: None }
    }

    /// Has the task of `cx` woken from now on, whenever there is a change: also when it no longer
    /// waits for one.
    pub fn listen(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return;
        }
        self.waker = Some(cx.waker().clone());
        let before = self.bell.wakers.borrow_mut()[self.place].replace(cx.waker().clone());
        drop(before);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let waker = self.bell.wakers.borrow_mut()[self.place].take();
        self.bell.free.borrow_mut().push(self.place);
        // With the last waker of a task may go what listens too: no borrow is held.
        drop(waker);
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

/// The time of a worker, read once in each turn of a task and not by everybody who wants to know
/// it in that turn: turns are short, and asking the system costs more than most of what is done in
/// between.
#[derive(Debug)]
pub struct Clock {
    turn: Cell<Instant>,
    /// A moment and what the time of day was then.
    anchor: Cell<(Instant, SystemTime)>,
    date: Cell<Date>,
}

/// How long the time of day is counted on from when it was read: so late somebody is heard who
/// sets the system's clock.
const ANCHOR_LIFE: Duration = Duration::from_secs(1);

/// The text of a `date` header.
#[derive(Clone, Copy, Debug)]
struct Date {
    /// When its second is over.
    until: Instant,
    text: [u8; 29],
}

impl Default for Clock {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            turn: Cell::new(now),
            anchor: Cell::new((now, SystemTime::now())),
            date: Cell::new(Date { until: now, text: [0; 29] }),
        }
    }
}

impl Clock {
    /// Reads the time: a turn begins, or something is about to be measured to its end.
    pub fn tick(&self) -> Instant {
        let now = Instant::now();
        self.turn.set(now);
        now
    }

    /// Reads the time, and says what time of day it is.
    pub fn read(&self) -> SystemTime {
        self.tick();
        self.time_of_day()
    }

    /// When the turn under way began.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.turn.get()
    }

    /// The time of day then.
    #[must_use]
    pub fn time_of_day(&self) -> SystemTime {
        let (anchor, time) = self.anchor.get();
        let since = self.now().saturating_duration_since(anchor);
        if since < ANCHOR_LIFE {
            return time + since;
        }
        // Both at the same moment, which is later than the beginning of the turn.
        let (at, time) = (Instant::now(), SystemTime::now());
        self.anchor.set((at, time));
        time
    }

    /// The time of day as a `date` header writes it (RFC 9110 §5.6.7).
    #[must_use]
    pub fn http_date(&self) -> [u8; 29] {
        let mut date = self.date.get();
        if self.now() >= date.until {
            let time = self.time_of_day();
            let past = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).subsec_nanos();
            if let Ok(text) = httpdate::fmt_http_date(time).as_bytes().try_into() {
                let left = Duration::from_secs(1) - Duration::from_nanos(past.into());
                date = Date { until: self.now() + left, text };
                self.date.set(date);
            }
        }
        date.text
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
        let behind = SystemTime::now().duration_since(read).expect("not in the future");
        assert!(behind.as_secs() < 5);
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicU32);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_listens_is_woken_by_every_change() {
        let (drain, woken) = (DrainView::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let told = || woken.0.load(std::sync::atomic::Ordering::Relaxed);
        let mut ear = drain.listen();
        for _ in 0..2 {
            assert_eq!(drain.listen().place, 1, "the place of one who left is taken again");
            ear.listen(&Context::from_waker(&waker));
        }
        for times in 1..3 {
            drain.look_again();
            assert_eq!(told(), times, "once for each change, however often it listened");
        }
        drop(ear);
        drain.look_again();
        assert_eq!(told(), 2);
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn time_passes_from_turn_to_turn() {
        let clock = Clock::default();
        let (begun, time) = (clock.now(), clock.time_of_day());
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!((clock.now(), clock.time_of_day()), (begun, time), "within one turn");
        assert_eq!(clock.tick() - begun, Duration::from_millis(400));
        assert_eq!(clock.time_of_day(), time + Duration::from_millis(400));
        tokio::time::advance(ANCHOR_LIFE).await;
        clock.tick();
        // The system's clock was read anew, and has hardly moved on.
        assert!(clock.time_of_day() < time + ANCHOR_LIFE);
    }
}
