//! The owner of listening sockets (design D1): each is made once per address and worker, is handed
//! out as a duplicate, and stays open whatever is reloaded, so that no connection is ever refused
//! by a change of configuration.

mod lock;

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

pub use lock::{LockError, NodeLock};

/// Longest accept queue that is asked for; the kernel's own limit (`somaxconn`) is lower.
pub const MAX_BACKLOG: u32 = 65_535;

/// Holds every listening socket of a process.
#[derive(Debug)]
pub struct SocketOwner {
    workers: NonZeroUsize,
    bound: Vec<Entry>,
    reserved: Vec<Reservation>,
    adopted: Vec<TcpListener>,
}

#[derive(Debug)]
struct Entry {
    owner: String,
    wanted: SocketAddr,
    real: SocketAddr,
    backlog: u32,
    sockets: Vec<TcpListener>,
}

/// A socket that somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Who: the name of the listener. Only tells requests for port 0 apart.
    pub owner: &'a str,
    /// Where; port 0 takes any free port, the same one each time `owner` asks.
    pub address: SocketAddr,
    /// Length of the accept queue.
    pub backlog: u32,
    /// Who accepts.
    pub sharing: Sharing,
}

/// Who accepts from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One thread: there is one socket.
    One,
    /// Each worker from a socket of its own, between which the kernel spreads connections.
    EachWorker,
}

/// Sockets ready to accept from. Closing these duplicates does not close the sockets.
#[derive(Debug)]
pub struct Bound {
    /// The real address, with the real port.
    pub address: SocketAddr,
    /// Non-blocking; one, or one for each worker.
    pub listeners: Vec<TcpListener>,
}

/// An address that is taken and not listened on yet: whoever dials it is refused, and nobody else
/// can listen there.
#[derive(Debug)]
pub struct Reservation {
    address: SocketAddr,
    socket: Socket,
}

impl Reservation {
    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {}", advice(source))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "it is in use; stop the process that listens there or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "it is not an address of this machine; choose one that is, or 0.0.0.0".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher port".to_owned()
        }
        _ => error.to_string(),
    }
}

impl SocketOwner {
    /// An owner of nothing yet, for a process with so many workers.
    #[must_use]
    pub fn new(workers: NonZeroUsize) -> Self {
        Self { workers, bound: Vec::new(), reserved: Vec::new(), adopted: Vec::new() }
    }

    /// Takes over sockets that are listening already (from a service manager or an older
    /// process). The first who wants their address gets them.
    pub fn adopt(&mut self, listeners: impl IntoIterator<Item = TcpListener>) {
        self.adopted.extend(listeners);
    }

    /// The sockets for an address: made now, or the same ones as before.
    ///
    /// # Errors
    /// The system refused; nothing is left bound then.
    pub fn bind(&mut self, wanted: Wanted<'_>) -> Result<Bound, BindError> {
        let fail = |source| BindError { address: wanted.address, source };
        let index = match self.find(&wanted) {
            Some(index) => index,
            None => {
                let entry = self.make(&wanted).map_err(fail)?;
                self.bound.push(entry);
                self.bound.len() - 1
            }
        };
        let entry = &mut self.bound[index];
        entry.set_backlog(wanted.backlog).map_err(fail)?;
        let listeners: io::Result<_> = entry.sockets.iter().map(TcpListener::try_clone).collect();
        Ok(Bound { address: entry.real, listeners: listeners.map_err(fail)? })
    }

    /// Takes an address that `owner` is going to listen on; `None` if it is held already.
    ///
    /// # Errors
    /// The system refused.
    pub fn reserve(
        &self,
        owner: &str,
        address: SocketAddr,
    ) -> Result<Option<Reservation>, BindError> {
        if self.bound.iter().any(|entry| entry.is_for(owner, address)) {
            return Ok(None);
        }
        let adopted = |listener: &TcpListener| listener.local_addr().ok() == Some(address);
        if self.adopted.iter().any(adopted) {
            return Ok(None);
        }
        let socket = bound_alone(address).map_err(|source| BindError { address, source })?;
        Ok(Some(Reservation { address, socket }))
    }

    /// Uses these addresses for whoever binds them next.
    pub fn redeem(&mut self, reservations: impl IntoIterator<Item = Reservation>) {
        self.reserved.extend(reservations);
    }

    /// Gives an address up: what is not accepted yet is reset. Once the duplicates are closed
    /// too, nothing listens there. For listeners that left the configuration and have drained.
    pub fn release(&mut self, owner: &str, address: SocketAddr) {
        self.bound.retain(|entry| !entry.is_for(owner, address));
    }

    /// Every address that is listened on, as wanted and as it really is.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.bound.iter().map(|entry| (entry.wanted, entry.real))
    }

    fn find(&self, wanted: &Wanted<'_>) -> Option<usize> {
        self.bound.iter().position(|entry| entry.is_for(wanted.owner, wanted.address))
    }

    fn make(&mut self, wanted: &Wanted<'_>) -> io::Result<Entry> {
        let count = match wanted.sharing {
            Sharing::One => 1,
            Sharing::EachWorker => self.workers.get(),
        };
        let mut sockets = self.take_adopted(wanted.address, count)?;
        if sockets.is_empty() {
            let reserved = self.reserved.iter().position(|one| one.address == wanted.address);
            let socket = match reserved.map(|index| self.reserved.swap_remove(index).socket) {
                Some(socket) => socket,
                None => bound_alone(wanted.address)?,
            };
            sockets.push(listen_alone(socket, wanted.backlog, count > 1)?);
        }
        let real = sockets[0].local_addr()?;
        while sockets.len() < count {
            sockets.push(listen_beside(real, wanted.backlog)?);
        }
        let Wanted { owner, address, backlog, .. } = *wanted;
        Ok(Entry { owner: owner.to_owned(), wanted: address, real, backlog, sockets })
    }

    fn take_adopted(&mut self, address: SocketAddr, most: usize) -> io::Result<Vec<TcpListener>> {
        let mut taken = Vec::new();
        let mut index = 0;
        while index < self.adopted.len() && taken.len() < most {
            if self.adopted[index].local_addr()? == address {
                let listener = self.adopted.swap_remove(index);
                listener.set_nonblocking(true)?;
                taken.push(listener);
            } else {
                index += 1;
            }
        }
        Ok(taken)
    }
}

impl Entry {
    fn is_for(&self, owner: &str, address: SocketAddr) -> bool {
        self.wanted == address && (address.port() != 0 || self.owner == owner)
    }

    fn set_backlog(&mut self, backlog: u32) -> io::Result<()> {
        if self.backlog != backlog {
            for socket in &self.sockets {
                // Listening again changes the length of the queue and nothing else.
                socket2::SockRef::from(socket).listen(queue_length(backlog))?;
            }
            self.backlog = backlog;
        }
        Ok(())
    }
}

/// A socket that is bound and does not listen. Others could listen there if it still said that it
/// does not mind, as `SO_REUSEADDR` does where nobody listens yet.
fn bound_alone(address: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    socket.bind(&address.into())?;
    socket.set_reuse_address(false)?;
    Ok(socket)
}

/// The first socket of an address listens. It was bound without `SO_REUSEPORT`, which is only
/// switched on afterwards: so a second process of the same user is refused and does not quietly
/// take a share of the connections. Somebody who has bound the address meanwhile, and can do
/// nothing with it, is not to be in our way.
fn listen_alone(socket: Socket, backlog: u32, shared: bool) -> io::Result<TcpListener> {
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.listen(queue_length(backlog))?;
    Ok(socket.into())
}

fn listen_beside(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(queue_length(backlog))?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // Connections of an earlier process that are still closing must not keep the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // One socket per family: an IPv4 peer never appears as a mapped IPv6 address.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn queue_length(backlog: u32) -> i32 {
    i32::try_from(backlog.clamp(1, MAX_BACKLOG)).unwrap_or(i32::MAX)
}

/// Whether this machine has an IPv6 loopback: without one, default addresses leave IPv6 out.
#[must_use]
pub fn has_ipv6() -> bool {
    let any_port = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    new_socket(any_port).and_then(|socket| socket.bind(&any_port.into())).is_ok()
}

#[cfg(test)]
mod tests;
