//! Heads, recycled per worker: in steady state a request allocates none.

use tulle_model::head::{RequestHead, ResponseHead};

use crate::free_list::FreeList;

/// A head that grew larger is given back to the allocator.
const KEPT_HEAD_BYTES: usize = 16 * 1024;

/// A worker's free list of heads.
#[derive(Debug, Default)]
pub struct HeadPool {
    free: FreeList<(RequestHead, ResponseHead)>,
}

impl HeadPool {
    /// An empty request head and an empty response head.
    #[must_use]
    pub fn take(&self) -> (RequestHead, ResponseHead) {
        self.free.take().unwrap_or_default()
    }

    /// Takes a pair back.
    pub fn give(&self, mut request: RequestHead, mut response: ResponseHead) {
        let bytes = request.headers.capacity_bytes().max(response.headers.capacity_bytes());
        if bytes <= KEPT_HEAD_BYTES {
            request.clear();
            response.clear();
            self.free.give((request, response));
        }
    }

    /// Gives back what a burst left over.
    pub fn trim(&self) {
        self.free.trim();
    }
}
