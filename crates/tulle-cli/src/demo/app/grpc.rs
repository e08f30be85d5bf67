//! gRPC without a schema: whatever message comes goes back, with a status in the trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::{Body, Frame, SizeHint};

/// The header by which a caller asks for a status other than 0.
const WANTED_STATUS: &str = "x-want-grpc-status";

/// A body of one piece that may end with trailers.
#[derive(Debug)]
pub(super) struct AnswerBody {
    bytes: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), trailers: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.bytes.take() {
            Some(bytes) => Some(Frame::data(bytes)),
            None => self.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Whether a request is a gRPC call.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type").map_or(&b""[..], HeaderValue::as_bytes);
    kind.starts_with(b"application/grpc")
}

/// Sends the messages of a call back.
pub(super) fn echo(request: &HeaderMap, messages: Bytes) -> Response<AnswerBody> {
    let zero = HeaderValue::from_static("0");
    let status = request.get(WANTED_STATUS).cloned().unwrap_or(zero);
    let mut body = AnswerBody::from(messages);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status);
    body.trailers = Some(trailers);
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
