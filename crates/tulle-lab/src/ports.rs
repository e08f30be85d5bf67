//! Ports for programs that must be told their ports: leased, so that parallel tests never share.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral range (32768…), so no outgoing connection ever takes one.
const FIRST: u16 = 18_000;
const COUNT: u16 = 12_000;

/// A TCP port on 127.0.0.1 that nobody else in the laboratory uses while this lives.
#[derive(Debug)]
pub struct PortLease {
    number: u16,
    _lock: File,
}

impl PortLease {
    /// Leases a port that is free now; the lock holds across processes.
    ///
    /// # Errors
    /// When the directory of locks cannot be used or no port is free.
    pub fn take() -> io::Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let directory = lock_directory()?;
        // Processes start at different places, so they rarely meet.
        let start = (std::process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (start + step) % COUNT;
            let lock = lock_file(&directory.join(number.to_string()))?;
            match lock.try_lock() {
                Ok(()) if is_free(number) => return Ok(Self { number, _lock: lock }),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "every port of the laboratory is leased"))
    }

    /// The port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

fn lock_directory() -> io::Result<PathBuf> {
    let directory = std::env::temp_dir().join("tulle-lab-ports");
    fs::create_dir_all(&directory)?;
    shared(&directory, 0o777);
    Ok(directory)
}

fn lock_file(path: &Path) -> io::Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(path)?;
    shared(path, 0o666);
    Ok(lock)
}

/// Whoever runs tests here next may be another user.
fn shared(path: &Path, mode: u32) {
    // Only its owner may, and has: for everybody else there is nothing to do.
    let _ = fs::set_permissions(path, Permissions::from_mode(mode));
}

fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::PortLease;

    #[test]
    fn a_leased_port_is_not_leased_again() {
        let leases: Vec<PortLease> = (0..50).map(|_| PortLease::take().unwrap()).collect();
        let mut numbers: Vec<u16> = leases.iter().map(PortLease::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }

    #[test]
    fn another_user_may_lease_what_this_one_leased() {
        let lease = PortLease::take().unwrap();
        let directory = super::lock_directory().unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&directory) & 0o777, 0o777);
        assert_eq!(mode(&directory.join(lease.number().to_string())) & 0o666, 0o666);
    }

    #[test]
    fn a_port_in_use_is_not_leased() {
        let lease = PortLease::take().unwrap();
        let _listener = std::net::TcpListener::bind(lease.address()).unwrap();
        assert!(!super::is_free(lease.number()));
    }
}
