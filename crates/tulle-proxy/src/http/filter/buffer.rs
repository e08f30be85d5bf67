//! Holds requests until they are whole, so that an upstream never waits for a slow caller.
//!
//! Reference: `envoy.extensions.filters.http.buffer.v3.Buffer`.

use tulle_model::head::{KnownId, RequestHead, ResponseHead};
use tulle_model::http::BufferSettings;

use crate::http::filter::context::FilterContext;
use crate::http::filter::{BodyWish, Verdict};
use crate::http::reply::LocalReply;
use crate::record::Record;

/// The buffer at work on one request.
#[derive(Debug)]
pub struct Buffer {
    settings: BufferSettings,
}

impl Buffer {
    /// With these settings.
    #[must_use]
    pub fn new(settings: BufferSettings) -> Self {
        Self { settings }
    }

    /// All of it.
    pub fn request_body(&mut self, _: &RequestHead) -> BodyWish {
        BodyWish::Buffer { limit: self.settings.max_request_bytes.get().into() }
    }

    /// Says how long the body is where its sender did not.
    ///
    /// # Errors
    /// None.
    pub async fn request_head(
        &mut self,
        cx: &mut FilterContext<'_>,
    ) -> Result<Verdict, LocalReply> {
        if let Some(held) = &cx.held {
            let length = held.bytes().len() as u64;
            if !cx.request.headers.contains(KnownId::ContentLength) {
                let set = cx.request.headers.set_with(KnownId::ContentLength, |out| {
                    out.push_u64(length);
                });
                debug_assert!(set.is_ok(), "digits are a value");
            }
        }
        Ok(Verdict::Continue)
    }

    /// Answers pass as they are.
    pub fn response_body(&mut self, _: &ResponseHead) -> BodyWish {
        BodyWish::Pass
    }

    /// Answers pass as they are.
    ///
    /// # Errors
    /// None.
    pub async fn response_head(&mut self, _: &mut FilterContext<'_>) -> Result<(), LocalReply> {
        Ok(())
    }

    /// Nothing is left to be done.
    pub fn on_end(self, _: &mut Record) {}
}
