//! Takes lines (logs, access logs) to where they are kept, on a thread of its own: whoever writes
//! a line never waits for a file, a pipe or a terminal. Lines that find the queue full are dropped
//! and counted.
//!
//! A worker has a [`WorkerQueue`], which never blocks: if the writer happens to hold the buffer
//! (for the time of one pointer swap) the line takes a detour. Threads that write seldom share a
//! [`SharedQueue`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Most bytes that wait in the buffer of one queue, and as many in its detour.
pub const MAX_QUEUE_BYTES: usize = 1 << 20;
/// While lines come, they are written so often; the first after a pause is written at once.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);
/// How often a file that could not be opened is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Where lines are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to, opened again when asked.
    File(PathBuf),
}

impl Target {
    fn open(&self) -> io::Result<File> {
        let duplicate = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
        match self {
            Self::Stdout => duplicate(io::stdout().as_fd()),
            Self::Stderr => duplicate(io::stderr().as_fd()),
            Self::File(path) => OpenOptions::new().create(true).append(true).open(path),
        }
    }
}

/// One place where lines are kept, and the thread that writes there.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queues: Mutex<Vec<Arc<Queue>>>,
    writer: OnceLock<Thread>,
    /// The writer sleeps until somebody wakes it.
    parked: AtomicBool,
    reopen: AtomicBool,
    stop: AtomicBool,
    /// Lines that were lost for good: the target refused them.
    failed: AtomicU64,
}

#[derive(Debug)]
struct Queue {
    buffer: Mutex<Vec<u8>>,
    detour: Mutex<Receiver<Vec<u8>>>,
    detour_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Sink {
    /// Opens `target` and starts its thread.
    ///
    /// # Errors
    /// The target cannot be opened, or no thread be started.
    pub fn open(target: Target) -> io::Result<Self> {
        let file = target.open()?;
        let shared = Arc::new(Shared::default());
        let writing = Writing { shared: Arc::clone(&shared), target, file, failed_at: None };
        let writer =
            std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.run())?;
        let _ = shared.writer.set(writer.thread().clone());
        Ok(Self { shared, writer: Some(writer) })
    }

    /// A queue for one worker.
    #[must_use]
    pub fn worker_queue(&self) -> WorkerQueue {
        let (queue, detour) = self.add_queue();
        WorkerQueue { shared: Arc::clone(&self.shared), queue, detour }
    }

    /// A queue for threads that write seldom.
    #[must_use]
    pub fn shared_queue(&self) -> SharedQueue {
        let (queue, _) = self.add_queue();
        SharedQueue { shared: Arc::clone(&self.shared), queue }
    }

    fn add_queue(&self) -> (Arc<Queue>, Sender<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel();
        let queue = Arc::new(Queue {
            buffer: Mutex::default(),
            detour: Mutex::new(receiver),
            detour_bytes: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
        });
        lock(&self.shared.queues).push(Arc::clone(&queue));
        (queue, sender)
    }

    /// Opens the file again before the next line, because somebody has moved it (SIGUSR1).
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
        self.shared.wake();
    }

    /// Lines dropped so far, for a full queue or a target that refused them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let queues = lock(&self.shared.queues);
        let full: u64 = queues.iter().map(|queue| queue.dropped.load(Ordering::Relaxed)).sum();
        full + self.shared.failed.load(Ordering::Relaxed)
    }

    /// Writes what is waiting and ends the thread; gives up at `deadline`.
    pub fn close(mut self, deadline: Instant) {
        self.shared.stop.store(true, Ordering::Release);
        let Some(writer) = self.writer.take() else { return };
        while !writer.is_finished() && Instant::now() < deadline {
            writer.thread().unpark();
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if writer.is_finished() {
            // A panic of the writer has been reported by the panic hook.
            let _ = writer.join();
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(writer) = self.shared.writer.get() {
            writer.unpark();
        }
    }
}

impl Shared {
    fn wake(&self) {
        if self.parked.swap(false, Ordering::SeqCst)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }
}

/// Nothing is ever left half done under these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker's way into a [`Sink`]. Pushing never blocks and, once warm, allocates nothing.
#[derive(Debug)]
pub struct WorkerQueue {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    detour: Sender<Vec<u8>>,
}

impl WorkerQueue {
    /// Hands over whole lines. Returns whether there was room.
    pub fn push(&self, lines: &[u8]) -> bool {
        let room = match self.queue.buffer.try_lock() {
            Ok(mut buffer) => append(&mut buffer, lines),
            Err(TryLockError::Poisoned(poisoned)) => append(&mut poisoned.into_inner(), lines),
            Err(TryLockError::WouldBlock) => self.push_aside(lines),
        };
        self.queue.count(room);
        // Only the first line after a pause pays for waking the writer.
        if self.shared.parked.load(Ordering::SeqCst) {
            self.shared.wake();
        }
        room
    }

    fn push_aside(&self, lines: &[u8]) -> bool {
        let waiting = self.queue.detour_bytes.load(Ordering::Relaxed);
        if waiting + lines.len() > MAX_QUEUE_BYTES {
            return false;
        }
        self.queue.detour_bytes.fetch_add(lines.len(), Ordering::SeqCst);
        self.detour.send(lines.to_vec()).is_ok()
    }
}

/// A way into a [`Sink`] that several threads use. Waits for other threads' copying, never for
/// writing.
#[derive(Clone, Debug)]
pub struct SharedQueue {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl SharedQueue {
    /// Hands over whole lines. Returns whether there was room.
    pub fn push(&self, lines: &[u8]) -> bool {
        let room = append(&mut lock(&self.queue.buffer), lines);
        self.queue.count(room);
        self.shared.wake();
        room
    }
}

impl Queue {
    fn count(&self, room: bool) {
        if !room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn has_lines(&self) -> bool {
        !lock(&self.buffer).is_empty() || self.detour_bytes.load(Ordering::SeqCst) > 0
    }

    /// Moves everything that waits to the end of `batch`.
    fn take(&self, batch: &mut Vec<u8>) {
        if batch.is_empty() {
            std::mem::swap(&mut *lock(&self.buffer), batch);
        } else {
            batch.append(&mut lock(&self.buffer));
        }
        for line in lock(&self.detour).try_iter() {
            self.detour_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            batch.extend_from_slice(&line);
        }
    }
}

fn append(buffer: &mut Vec<u8>, lines: &[u8]) -> bool {
    let room = buffer.len() + lines.len() <= MAX_QUEUE_BYTES;
    if room {
        buffer.extend_from_slice(lines);
    }
    room
}

/// The thread's own state.
struct Writing {
    shared: Arc<Shared>,
    target: Target,
    file: File,
    failed_at: Option<Instant>,
}

impl Writing {
    fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            // Read before the queues: what was pushed before the stop is written.
            let stop = self.shared.stop.load(Ordering::Acquire);
            self.reopen_if_asked();
            self.forget_abandoned();
            let mut wrote = false;
            let queues = lock(&self.shared.queues).clone();
            for queue in &queues {
                batch.clear();
                queue.take(&mut batch);
                wrote |= !batch.is_empty();
                self.write(&batch);
            }
            if stop {
                return;
            }
            if wrote {
                std::thread::park_timeout(FLUSH_INTERVAL);
            } else {
                self.park(&queues);
            }
        }
    }

    /// Sleeps until somebody pushes. The flag is set first and the queues looked at afterwards, so
    /// that a push in between is seen by one of the two.
    fn park(&self, queues: &[Arc<Queue>]) {
        self.shared.parked.store(true, Ordering::SeqCst);
        let asked =
            self.shared.reopen.load(Ordering::SeqCst) || self.shared.stop.load(Ordering::SeqCst);
        if !asked && !queues.iter().any(|queue| queue.has_lines()) {
            // Bounds what a wake-up lost to a race could cost.
            std::thread::park_timeout(RETRY_INTERVAL);
        }
        self.shared.parked.store(false, Ordering::SeqCst);
    }

    /// Queues whose writers are gone.
    fn forget_abandoned(&self) {
        lock(&self.shared.queues).retain(|queue| {
            let abandoned = Arc::strong_count(queue) == 1 && !queue.has_lines();
            if abandoned {
                let dropped = queue.dropped.load(Ordering::Relaxed);
                self.shared.failed.fetch_add(dropped, Ordering::Relaxed);
            }
            !abandoned
        });
    }

    fn reopen_if_asked(&mut self) {
        let retry = self.failed_at.is_some_and(|at| at.elapsed() >= RETRY_INTERVAL);
        if !self.shared.reopen.swap(false, Ordering::Relaxed) && !retry {
            return;
        }
        match self.target.open() {
            Ok(file) => {
                self.file = file;
                self.failed_at = None;
            }
            Err(_) => self.failed_at = Some(Instant::now()),
        }
    }

    fn write(&mut self, mut batch: &[u8]) {
        while !batch.is_empty() {
            match self.file.write(batch) {
                Ok(written) if written > 0 => batch = &batch[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the terminal or pipe has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_stopping() => {
                    std::thread::park_timeout(FLUSH_INTERVAL);
                }
                Ok(_) | Err(_) => {
                    self.failed_at.get_or_insert_with(Instant::now);
                    let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                    self.shared.failed.fetch_add(lines as u64, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
