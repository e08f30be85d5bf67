//! Where blocks of cells are made, found, added up and, when nobody uses them, forgotten.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Counter, Gauge, Group, Histogram, Kind, exposition};

/// Most lines that the series of one thread take when scraped. Beyond it new label sets are
/// counted as dropped and go nowhere.
pub const MAX_SERIES: usize = 50_000;
/// How long the numbers of something that no longer exists are kept.
pub const EVICT_AFTER: Duration = Duration::from_secs(600);

/// Whose metric names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours; spoken always.
    Tulle,
    /// Envoy's, as its Prometheus export writes them.
    Envoy,
    /// Istio's standard metrics.
    Istio,
}

/// All metrics of a process. Cloned to whoever makes or scrapes some.
#[derive(Clone, Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    /// How new blocks come here without a lock in the way of their thread.
    blocks: Sender<Published>,
}

#[derive(Debug)]
struct Shared {
    dialects: Vec<Dialect>,
    max_series: usize,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    arriving: Receiver<Published>,
    groups: Vec<HeldGroup>,
}

#[derive(Debug)]
pub(super) struct HeldGroup {
    pub(super) group: &'static Group,
    pub(super) blocks: Vec<HeldBlock>,
}

#[derive(Debug)]
pub(super) struct HeldBlock {
    pub(super) block: Arc<Block>,
    unused_since: Option<Instant>,
}

#[derive(Debug)]
struct Published {
    group: &'static Group,
    block: Arc<Block>,
}

/// The cells of one label set in one thread.
#[derive(Debug)]
pub(super) struct Block {
    /// `name="value",…`, escaped as it will be written.
    pub(super) labels: Box<str>,
    pub(super) cells: Box<[AtomicU64]>,
}

impl Block {
    fn new(group: &Group, labels: &str) -> Self {
        let count = group.families.iter().map(|family| family.kind.cells()).sum();
        let cells = std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Self { labels: labels.into(), cells }
    }
}

impl Registry {
    /// An empty one that speaks these dialects beside [`Dialect::Tulle`].
    #[must_use]
    pub fn new(dialects: &[Dialect]) -> Self {
        Self::with_limit(dialects, MAX_SERIES)
    }

    /// As [`new`](Self::new), with another limit than [`MAX_SERIES`].
    #[must_use]
    pub fn with_limit(dialects: &[Dialect], max_series: usize) -> Self {
        let (blocks, arriving) = mpsc::channel();
        let held = Mutex::new(Held { arriving, groups: Vec::new() });
        let dialects = [&[Dialect::Tulle], dialects].concat();
        Self { shared: Arc::new(Shared { dialects, max_series, held }), blocks }
    }

    /// The metrics of the current thread. One for each thread.
    #[must_use]
    pub fn local(&self) -> Local {
        Local(Rc::new(LocalState {
            registry: self.clone(),
            hasher: RandomState::new(),
            made: RefCell::default(),
            detached: RefCell::default(),
            lines: Cell::new(0),
            dropped: Cell::new(None),
        }))
    }

    /// Everything, in Prometheus' text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut held = self.hold();
        let mut text = String::new();
        for group in &mut held.groups {
            exposition::write_group(group, &mut text);
        }
        text
    }

    /// Each counter and gauge as `name{labels}` with its value; of histograms count and sum.
    #[must_use]
    pub fn samples(&self) -> Vec<(String, f64)> {
        let mut held = self.hold();
        held.groups.iter_mut().flat_map(exposition::samples).collect()
    }

    /// Forgets numbers of what no thread has used for [`EVICT_AFTER`]. To be called now and then.
    pub fn sweep(&self, now: Instant) {
        for group in &mut self.hold().groups {
            group.blocks.retain_mut(|held| {
                if Arc::strong_count(&held.block) > 1 {
                    held.unused_since = None;
                    return true;
                }
                let since = *held.unused_since.get_or_insert(now);
                now.saturating_duration_since(since) < EVICT_AFTER
            });
        }
    }

    /// Everything that has arrived. Only scrapes and sweeps wait for each other here.
    fn hold(&self) -> MutexGuard<'_, Held> {
        let mut held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(Published { group, block }) = held.arriving.try_recv() {
            let block = HeldBlock { block, unused_since: None };
            match held.groups.iter_mut().find(|known| std::ptr::eq(known.group, group)) {
                Some(known) => known.blocks.push(block),
                None => held.groups.push(HeldGroup { group, blocks: vec![block] }),
            }
        }
        held.groups.sort_by_key(|known| known.group.families.first().map(|family| family.name));
        held
    }
}

/// The metrics of one thread. Stays in it; clones are the same.
#[derive(Clone)]
pub struct Local(Rc<LocalState>);

struct LocalState {
    registry: Registry,
    hasher: RandomState,
    made: RefCell<HashMap<u64, Vec<Known>>>,
    /// Cells of groups that nobody will read: other dialects, and what is over the limit.
    detached: RefCell<Vec<(&'static Group, Arc<Block>)>>,
    /// Lines that the series made here take when scraped.
    lines: Cell<usize>,
    dropped: Cell<Option<SeriesLimit>>,
}

struct Known {
    group: &'static Group,
    block: Weak<Block>,
}

crate::metrics! {
    /// What the limit on series costs.
    struct SeriesLimit(Tulle, []) {
        counter dropped = "tulle_metrics_series_dropped_total",
            "Label sets that were not counted because the limit on series was reached.";
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("lines", &self.0.lines.get()).finish_non_exhaustive()
    }
}

impl Local {
    /// The series of `group` with these values of its labels, the same ones each time.
    ///
    /// Not for every request: keep what this returns beside what it counts. Missing values are
    /// empty, superfluous ones are ignored.
    #[must_use]
    pub fn series(&self, group: &'static Group, values: &[&str]) -> Series {
        if !self.0.registry.shared.dialects.contains(&group.dialect) {
            return self.detached(group);
        }
        let labels = exposition::labels_text(group.labels, values);
        let hash = self.0.hasher.hash_one((std::ptr::from_ref(group).addr(), &labels));
        if let Some(block) = self.find(hash, group, &labels) {
            return Series::new(block);
        }
        let lines: usize = group.families.iter().map(|family| family.kind.lines()).sum();
        if !self.has_room(lines) {
            self.count_dropped();
            return self.detached(group);
        }
        self.0.lines.set(self.0.lines.get() + lines);
        let block = Arc::new(Block::new(group, &labels));
        let known = Known { group, block: Arc::downgrade(&block) };
        self.0.made.borrow_mut().entry(hash).or_default().push(known);
        // The registry holds the other end for as long as it lives, and it lives in `self`.
        let _ = self.0.registry.blocks.send(Published { group, block: Arc::clone(&block) });
        Series::new(block)
    }

    fn find(&self, hash: u64, group: &'static Group, labels: &str) -> Option<Arc<Block>> {
        let made = self.0.made.borrow();
        made.get(&hash)?
            .iter()
            .filter(|known| std::ptr::eq(known.group, group))
            .find_map(|known| known.block.upgrade().filter(|block| *block.labels == *labels))
    }

    fn has_room(&self, lines: usize) -> bool {
        let most = self.0.registry.shared.max_series;
        if self.0.lines.get() + lines > most {
            self.forget_evicted();
        }
        self.0.lines.get() + lines <= most
    }

    fn forget_evicted(&self) {
        let mut made = self.0.made.borrow_mut();
        let mut lines = 0;
        made.retain(|_, known| {
            known.retain(|known| known.block.strong_count() > 0);
            let families = known.iter().flat_map(|known| known.group.families);
            lines += families.map(|family| family.kind.lines()).sum::<usize>();
            !known.is_empty()
        });
        self.0.lines.set(lines);
    }

    fn count_dropped(&self) {
        let limit = self.0.dropped.take().unwrap_or_else(|| {
            let block = Arc::new(Block::new(SeriesLimit::GROUP, ""));
            let group = SeriesLimit::GROUP;
            let _ = self.0.registry.blocks.send(Published { group, block: Arc::clone(&block) });
            SeriesLimit::of(Series::new(block))
        });
        limit.dropped().inc();
        self.0.dropped.set(Some(limit));
    }

    fn detached(&self, group: &'static Group) -> Series {
        let mut detached = self.0.detached.borrow_mut();
        let found = detached.iter().find(|(known, _)| std::ptr::eq(*known, group));
        if let Some((_, block)) = found {
            return Series::new(Arc::clone(block));
        }
        let block = Arc::new(Block::new(group, ""));
        detached.push((group, Arc::clone(&block)));
        Series::new(block)
    }
}

/// The cells of one label set, as their thread writes them.
#[derive(Clone, Debug)]
pub struct Series {
    block: Arc<Block>,
    /// One writer: it stays in its thread.
    _local: PhantomData<*const ()>,
}

impl Series {
    fn new(block: Arc<Block>) -> Self {
        Self { block, _local: PhantomData }
    }

    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn counter(&self, offset: usize) -> Counter<'_> {
        Counter(&self.block.cells[offset])
    }

    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn gauge(&self, offset: usize) -> Gauge<'_> {
        Gauge(&self.block.cells[offset])
    }

    #[doc(hidden)]
    #[inline]
    #[must_use]
    pub fn histogram(&self, offset: usize, bounds: &'static [f64]) -> Histogram<'_> {
        let cells = Kind::Histogram(bounds).cells();
        Histogram { bounds, cells: &self.block.cells[offset..offset + cells] }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tulle => "tulle",
            Self::Envoy => "envoy",
            Self::Istio => "istio",
        })
    }
}
