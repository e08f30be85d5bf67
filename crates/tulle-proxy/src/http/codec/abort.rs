//! How a body or a stream breaks: never to be taken for an end.

use std::io;

use thiserror::Error;

use super::h1::Violation;

/// Why a message did not come to its end.
#[derive(Debug, Error)]
pub enum Abort {
    /// The peer reset the stream or the connection.
    #[error("reset by the peer")]
    Reset,
    /// The peer says that it did not process the stream (REFUSED_STREAM).
    #[error("refused before it was processed")]
    Refused,
    /// The connection went away and the stream was not processed on it (GOAWAY).
    #[error("the connection went away before it was processed")]
    WentAway,
    /// The connection ended in the middle.
    #[error("ended in the middle")]
    Truncated,
    /// The peer broke the protocol; how.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A limit was reached; which.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// The connection broke.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
}

impl From<Violation> for Abort {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::TrailersTooLarge | Violation::TooManyTrailers => {
                Self::TooLarge(violation.detail())
            }
            _ => Self::Protocol(violation.detail()),
        }
    }
}

impl From<h2::Error> for Abort {
    fn from(error: h2::Error) -> Self {
        match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
            Some(h2::Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => Self::WentAway,
            Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR)
                if !error.is_remote() =>
            {
                Self::Protocol("http2")
            }
            Some(_) => Self::Reset,
            None => error.into_io().map_or(Self::Truncated, Self::Io),
        }
    }
}
