//! Feeds the inspector from a connection without taking a byte from it.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tulle_model::listener::Inspection;

use super::{MAX_INSPECTED_BYTES, Protocol, Verdict, inspect};

/// One buffer for all connections of a worker: it is only used while a look is taken, so that a
/// connection that waits for its first byte owns none.
#[derive(Debug)]
pub struct Scratch(RefCell<Box<[u8]>>);

impl Default for Scratch {
    fn default() -> Self {
        Self(RefCell::new(vec![0; MAX_INSPECTED_BYTES].into_boxed_slice()))
    }
}

/// What came of waiting for a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What the connection begins with.
    pub protocol: Protocol,
    /// How many of its bytes were there.
    pub bytes: usize,
}

/// Waits until the bytes of `stream` say what it is. Takes as long as the client does: bytes
/// decide. May be dropped at any time, so that a caller can race it with a time limit or with the
/// first bytes of the other side.
///
/// # Errors
/// The connection broke.
pub async fn protocol_of(
    stream: &TcpStream,
    wanted: &Inspection,
    scratch: &Scratch,
) -> io::Result<Inspected> {
    if !wanted.tls && !wanted.http {
        return Ok(Inspected { protocol: Protocol::Other, bytes: 0 });
    }
    let judge = |bytes: &[u8], ended| inspect(bytes, wanted, ended);
    let (protocol, bytes) = judged(stream, scratch, judge).await?;
    Ok(Inspected { protocol, bytes })
}

/// Waits until `judge` has seen enough of the first bytes of `stream`; says what it found and how
/// many bytes were there. It is told whether no more will come, or can be looked at.
///
/// # Errors
/// The connection broke.
pub async fn judged<T>(
    stream: &TcpStream,
    scratch: &Scratch,
    mut judge: impl FnMut(&[u8], bool) -> Verdict<T>,
) -> io::Result<(T, usize)> {
    let mut at_least = 1;
    loop {
        let ended = stream.ready(Interest::READABLE).await?.is_read_closed();
        let verdict = stream.try_io(Interest::READABLE, || {
            let waiting = rustix::io::ioctl_fionread(stream.as_fd())?;
            if waiting < at_least && !ended {
                // Forgets the readiness, so that the next bytes wake us. A hello that comes byte
                // by byte is not copied and parsed for each of them.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            look(stream, ended, scratch, &mut judge)
        });
        match verdict {
            Ok((Verdict::Found(found), bytes)) => return Ok((found, bytes)),
            Ok((Verdict::NeedMore(more), _)) => at_least = more as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The stream, fit to be read after a look that was broken off: that look may have forgotten that
/// bytes are there, so the system is asked anew.
///
/// # Errors
/// The stream cannot be watched.
pub fn look_no_more(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

fn look<T>(
    stream: &TcpStream,
    ended: bool,
    scratch: &Scratch,
    judge: &mut impl FnMut(&[u8], bool) -> Verdict<T>,
) -> io::Result<(Verdict<T>, usize)> {
    let mut buffer = scratch.0.borrow_mut();
    let (bytes, _) = rustix::net::recv(stream.as_fd(), &mut **buffer, RecvFlags::PEEK)?;
    // No bytes from a readable stream: the client has ended it.
    let ended = ended || bytes == 0 || bytes >= MAX_INSPECTED_BYTES;
    Ok((judge(&buffer[..bytes.min(MAX_INSPECTED_BYTES)], ended), bytes))
}

#[cfg(test)]
mod tests;
