//! The store: the little that must survive a restart. Everything not in it is recomputed.
//!
//! [`Store`] is narrow on purpose (whole values under a table and a key), so that a directory, an
//! object store or a key-value service can be behind it. [`writer`] writes in the background and
//! only the newest value of each key; [`directory`] is the implementation for one machine.

use std::fmt;

pub mod directory;
pub mod writer;

/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Last accepted version of each object, by `Kind/namespace/name`.
    Objects,
    /// Registered workloads, by `namespace/name`.
    Registry,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 2] = [Self::Objects, Self::Registry];

    /// Its name on disk.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Registry => "registry",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value to keep, or a key to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// Under which key.
    pub key: String,
    /// What; `None` forgets the key.
    pub value: Option<Vec<u8>>,
}

/// Keeps values over restarts. Writing the same value again is harmless.
pub trait Store: Send {
    /// Every key of `table` with its value, sorted by key.
    ///
    /// # Errors
    /// The store cannot be read at all; single damaged values are left out with a warning.
    fn load(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Keeps one value, or forgets it; a workload so that it survives a power cut. Afterwards a
    /// reader sees the old value or the new one, never a part.
    ///
    /// # Errors
    /// The old value may still be there.
    fn write(&self, write: &Write) -> Result<(), StoreError>;
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the directory.
    #[error("{0} is in use by another tulle-control; give each its own --state")]
    InUse(String),
    /// The system says no.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The value is longer than [`MAX_VALUE_BYTES`].
    #[error("the value of {table} {key} has more than {MAX_VALUE_BYTES} bytes")]
    TooLong {
        /// Its table.
        table: Table,
        /// Its key.
        key: String,
    },
}

/// The store of a control plane that was given no place to keep anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Store for Nowhere {
    fn load(&self, _: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        Ok(Vec::new())
    }

    fn write(&self, _: &Write) -> Result<(), StoreError> {
        Ok(())
    }
}
