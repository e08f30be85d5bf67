//! Read buffers, recycled per worker: an idle plaintext connection owns none.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::free_list::FreeList;
use crate::io::Io;

/// Bytes of a fresh read buffer: a head and a small body in one read.
pub const READ_BUFFER_BYTES: usize = 16 * 1024;
/// A buffer that grew larger is given back to the allocator.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;

/// A worker's free list of byte buffers.
#[derive(Clone, Debug, Default)]
pub struct BufferPool {
    free: Rc<FreeList<Vec<u8>>>,
}

impl BufferPool {
    /// An empty buffer with room in it.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.free.take().unwrap_or_else(|| Vec::with_capacity(READ_BUFFER_BYTES))
    }

    /// Takes a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        if (1..=KEPT_BUFFER_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.free.give(buffer);
        }
    }

    /// Gives back what a burst left over.
    pub fn trim(&self) {
        self.free.trim();
    }
}

/// What was read from a connection and not used yet.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadBuffer {
    /// What was read and not used.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Whether nothing is unread.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Marks `count` bytes as used.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(self.start + count <= self.bytes.len());
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Reads more from `io`; zero is the end. Borrows a buffer from `pool` if there is none.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn fill(&mut self, io: &Io, pool: &BufferPool) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx, io, pool)).await
    }

    /// As [`fill`](Self::fill).
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        io: &Io,
        pool: &BufferPool,
    ) -> Poll<io::Result<usize>> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        if self.bytes.len() == self.bytes.capacity() && self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve(READ_BUFFER_BYTES);
        }
        let room = self.bytes.capacity() - self.bytes.len();
        io.poll_read_buf(cx, &mut self.bytes, room)
    }

    /// Puts `bytes` before everything unread: they were read by somebody else before.
    pub fn unread_first(&mut self, bytes: &[u8]) {
        self.bytes.splice(..self.start, bytes.iter().copied());
        self.start = 0;
    }

    /// Gives an empty buffer back; does nothing while bytes are unread.
    pub fn release(&mut self, pool: &BufferPool) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            pool.give(std::mem::take(&mut self.bytes));
            self.start = 0;
        }
    }

    /// Takes the unread bytes out, for a protocol that reads for itself.
    #[must_use]
    pub fn into_unread(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_bytes_make_room_and_buffers_come_back() {
        let pool = BufferPool::default();
        let mut buffer = ReadBuffer { bytes: b"abcdef".to_vec(), start: 0 };
        buffer.consume(2);
        assert_eq!(buffer.unread(), b"cdef");
        buffer.release(&pool);
        assert_eq!(buffer.unread(), b"cdef", "unread bytes are never given away");
        buffer.unread_first(b"xy");
        assert_eq!(buffer.unread(), b"xycdef");
        buffer.consume(6);
        buffer.release(&pool);
        assert_eq!(pool.free.len(), 1);
    }
}
