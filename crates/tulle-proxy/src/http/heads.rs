//! Heads, recycled per worker: in steady state a request allocates none.

use std::cell::RefCell;

use tulle_model::head::{RequestHead, ResponseHead};

/// Pairs of heads a worker keeps for reuse.
const KEPT_HEADS: usize = 256;
/// A head that grew larger is given back to the allocator.
const KEPT_HEAD_BYTES: usize = 16 * 1024;

/// A worker's free list of heads.
#[derive(Debug, Default)]
pub struct HeadPool {
    free: RefCell<Vec<(RequestHead, ResponseHead)>>,
}

impl HeadPool {
    /// An empty request head and an empty response head.
    #[must_use]
    pub fn take(&self) -> (RequestHead, ResponseHead) {
        self.free.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a pair back.
    pub fn give(&self, mut request: RequestHead, mut response: ResponseHead) {
        let bytes = request.headers.capacity_bytes().max(response.headers.capacity_bytes());
        let mut free = self.free.borrow_mut();
        if free.len() < KEPT_HEADS && bytes <= KEPT_HEAD_BYTES {
            request.clear();
            response.clear();
            free.push((request, response));
        }
    }
}
