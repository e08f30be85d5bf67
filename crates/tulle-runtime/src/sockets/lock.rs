//! One process per node: a second one would take half of the traffic and overwrite the state.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Longest name of a lock, bytes: `sun_path` less its leading NUL.
const MAX_NAME_BYTES: usize = 107;

/// Held for as long as the process lives; the kernel releases it when the process dies.
#[derive(Debug)]
pub struct NodeLock {
    _held: Held,
}

#[derive(Debug)]
enum Held {
    File { _file: File },
    Name { _socket: UnixListener },
}

/// Why a lock is not held.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{what} is in use by another process{holder}; stop it or choose another")]
    Taken {
        /// The directory or name.
        what: String,
        /// ` (process 123)`, or nothing.
        holder: String,
    },
    /// The lock file cannot be made.
    #[error("cannot lock {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name cannot be taken.
    #[error("cannot take the name {name}: {source}")]
    Name {
        /// The name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

impl NodeLock {
    /// Locks a state directory, which is made (0700) if it is missing.
    ///
    /// # Errors
    /// Another process has it, or it cannot be written.
    pub fn of_directory(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let fail = |source| LockError::File { path: path.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let mut file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {
                write_holder(&mut file).map_err(fail)?;
                Ok(Self { _held: Held::File { _file: file } })
            }
            Err(TryLockError::WouldBlock) => Err(LockError::Taken {
                what: format!("the directory {}", directory.display()),
                holder: read_holder(&mut file),
            }),
            Err(TryLockError::Error(source)) => Err(fail(source)),
        }
    }

    /// Takes a name that only one process of this network namespace can have.
    ///
    /// # Errors
    /// Another process has it, or it is no possible name.
    pub fn of_name(name: &str) -> Result<Self, LockError> {
        let fail = |source| LockError::Name { name: name.to_owned(), source };
        let bytes = name.as_bytes();
        let bytes = &bytes[..bytes.len().min(MAX_NAME_BYTES)];
        let address = SocketAddr::from_abstract_name(bytes).map_err(fail)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Self { _held: Held::Name { _socket: socket } }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(LockError::Taken { what: format!("the name {name}"), holder: String::new() })
            }
            Err(error) => Err(fail(error)),
        }
    }
}

/// The number of this process, for the message that another one gives.
fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(20).read_to_string(&mut text);
    match read.ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(process) => format!(" (process {process})"),
        None => String::new(),
    }
}
