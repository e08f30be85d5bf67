//! gRPC without a schema: every message goes back as it comes, with a status in the trailers.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The header by which a caller asks for a status other than 0.
const WANTED_STATUS: &str = "x-want-grpc-status";

/// What an answer carries.
#[derive(Debug)]
pub(super) enum AnswerBody {
    /// One piece of bytes, or nothing.
    Piece(Option<Bytes>),
    /// What the caller sends, as it comes, and then a status.
    Echo(Incoming, Option<HeaderMap>),
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self::Piece(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Piece(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Echo(incoming, trailers) => {
                let frame = match ready!(pin!(incoming).poll_frame(context)) {
                    Some(Ok(frame)) => frame.into_data().ok().map(|data| Ok(Frame::data(data))),
                    Some(Err(error)) => Some(Err(io::Error::other(error))),
                    None => None,
                };
                // The caller's own trailers, or its end: the status is all that is left.
                Poll::Ready(frame.or_else(|| trailers.take().map(|map| Ok(Frame::trailers(map)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Piece(bytes) => bytes.is_none(),
            Self::Echo(_, trailers) => trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Piece(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Echo(..) => SizeHint::default(),
        }
    }
}

/// Whether a request is a gRPC call.
pub(super) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type").map_or(&b""[..], HeaderValue::as_bytes);
    kind.starts_with(b"application/grpc")
}

/// Sends the messages of a call back.
pub(super) fn echo(request: &HeaderMap, messages: Incoming) -> Response<AnswerBody> {
    let zero = HeaderValue::from_static("0");
    let status = request.get(WANTED_STATUS).cloned().unwrap_or(zero);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status);
    let mut response = Response::new(AnswerBody::Echo(messages, Some(trailers)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
