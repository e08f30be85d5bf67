//! Files: the configuration directories as one whole value, newest first.
//!
//! A thread of its own waits for signs of change ([`signs`]), reads what differs ([`tree`]) and
//! hands the whole set on. Signs only say *when* to look; what is there is always read from the
//! tree, so a sign that is lost costs time ([`LOOK_EVERY`], [`READ_ALL_EVERY`]) and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

mod signs;
mod tree;

use signs::Signs;
pub use tree::{Content, FileSet, TreeError};
use tree::{Look, Tree};

/// How often the directories are looked at without a sign of change.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often every file is read again, whatever its time stamps say.
pub const READ_ALL_EVERY: Duration = Duration::from_secs(30);
/// Changes that come within this time of each other are taken together.
pub const SETTLE: Duration = Duration::from_millis(5);

/// Watches directories until it is dropped.
#[derive(Debug)]
pub struct FileWatch {
    signs: Arc<Signs>,
    thread: Option<JoinHandle<()>>,
}

impl FileWatch {
    /// Reads `roots` and hands the set to `publish`; then again after each change, from a thread.
    ///
    /// # Errors
    /// A root is not a readable directory, or the system has no more threads.
    pub fn start(
        roots: Vec<PathBuf>,
        mut publish: impl FnMut(&FileSet) + Send + 'static,
    ) -> Result<Self, TreeError> {
        let mut tree = Tree::open(roots)?;
        let signs = Arc::new(Signs::default());
        let watcher = watch(&tree, &signs);
        tree.look(Look::Everything, &signs.take());
        publish(tree.files());
        let theirs = Arc::clone(&signs);
        let thread = std::thread::Builder::new().name("files".into()).spawn(move || {
            run(&mut tree, &theirs, &mut publish);
            drop(watcher);
        });
        let thread = thread.map_err(TreeError::Thread)?;
        Ok(Self { signs, thread: Some(thread) })
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.signs.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches files ended early");
        }
    }
}

/// Subscribes to the system's signs. Without them changes are found by looking.
fn watch(tree: &Tree, signs: &Arc<Signs>) -> Option<notify::RecommendedWatcher> {
    let theirs = Arc::clone(signs);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        theirs.note(event.as_ref().ok(), Instant::now());
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files are not watched, but looked at every 2 s");
            return None;
        }
    };
    for root in tree.roots() {
        if let Err(error) = watcher.watch(root, RecursiveMode::Recursive) {
            let root = root.display();
            tracing::warn!(%error, %root, "a directory is not watched, but looked at every 2 s");
        }
    }
    Some(watcher)
}

fn run(tree: &mut Tree, signs: &Signs, publish: &mut impl FnMut(&FileSet)) {
    let mut read_all_at = Instant::now() + READ_ALL_EVERY;
    while signs.wait(LOOK_EVERY, SETTLE) {
        let now = Instant::now();
        let look = if now >= read_all_at { Look::Everything } else { Look::WhatDiffers };
        if look == Look::Everything {
            read_all_at = now + READ_ALL_EVERY;
        }
        if tree.look(look, &signs.take()) {
            // A set that cannot be taken in must not end the watching of better ones.
            let taken = catch_unwind(AssertUnwindSafe(|| publish(tree.files())));
            if taken.is_err() {
                tracing::error!("this configuration cannot be used; the last one stays in force");
            }
        }
    }
}

#[cfg(test)]
mod tests;
