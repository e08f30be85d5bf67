//! One request on an upstream connection: where its body goes and how its answer comes.

use std::future::poll_fn;

use h2::client::ResponseFuture;
use tulle_model::head::{RequestHead, ResponseHead, Version};

use crate::buffer::BufferPool;
use crate::http::body::{Body, H1Body, H1Source};
use crate::http::codec::abort::Abort;
use crate::http::codec::h1::{
    CodecSettings, ConnectionOption, Framing, HeadParser, RequestContext, encode_request,
};
use crate::http::codec::h2::{H2Body, H2Sink, read_response, write_request};
use crate::http::sink::{H1Sink, Sink};
use crate::upstream::http1::Http1Connection;
use crate::upstream::http2::Http2Lease;

/// Interim answers that one request may get.
pub const MAX_INTERIM: u32 = 8;

/// Limits of upstream answers: Envoy's defaults.
pub const UPSTREAM_CODEC: CodecSettings = CodecSettings {
    max_head_bytes: 60 * 1024,
    max_fields: 100,
    accept_http_10: true,
    underscores: crate::http::codec::h1::Underscores::Allow,
};

/// One request on an upstream connection.
#[derive(Debug)]
pub struct UpstreamStream<'l> {
    /// Where the request's body goes; its head is queued.
    pub sink: Sink<'l>,
    /// How the answer comes.
    pub answer: Answer<'l>,
}

/// How an answer comes.
#[derive(Debug)]
pub enum Answer<'l> {
    /// On an HTTP/1 connection.
    H1(H1Answer<'l>),
    /// On an HTTP/2 stream.
    H2(H2Answer),
}

/// An answer on an HTTP/2 stream.
#[derive(Debug)]
pub struct H2Answer {
    head: ResponseFuture,
    interim: u32,
    /// What follows the head, once that came.
    body: Option<H2Body>,
}

/// An answer on an HTTP/1 connection.
#[derive(Debug)]
pub struct H1Answer<'l> {
    source: H1Source<'l>,
    parser: HeadParser,
    context: RequestContext,
    interim: u32,
    /// Whether any byte of the answer came.
    pub touched: bool,
}

/// What of an answer came.
#[derive(Debug)]
pub enum Arrived {
    /// An interim head; another head follows.
    Interim,
    /// The final head, and how its body is framed.
    Final(FinalHead),
}

/// What a final head says beside itself.
#[derive(Clone, Copy, Debug)]
pub struct FinalHead {
    /// How the body is framed.
    pub framing: Framing,
    /// Whether an HTTP/1 connection may be used again after it.
    pub reusable: bool,
}

/// Queues `head` on an HTTP/1 connection.
pub fn open_h1<'l>(
    connection: &'l mut Http1Connection,
    head: &RequestHead,
    framing: Framing,
    pool: &'l BufferPool,
) -> UpstreamStream<'l> {
    let mut out = pool.take();
    encode_request(head, framing, ConnectionOption::Implicit, &mut out);
    let io = &connection.io;
    let buffer = &mut connection.buffer;
    let source = H1Source { io, buffer, pool, settings: &UPSTREAM_CODEC, trailers: true };
    let answer = H1Answer {
        source,
        parser: HeadParser::new(),
        context: RequestContext::of(head),
        interim: 0,
        touched: false,
    };
    UpstreamStream {
        sink: Sink::H1(H1Sink::new(io, out, framing, true)),
        answer: Answer::H1(answer),
    }
}

/// Sends `head` on an HTTP/2 connection.
///
/// # Errors
/// What cannot be said in HTTP/2, or that the connection is gone.
pub fn open_h2<'l>(
    lease: &mut Http2Lease,
    head: &RequestHead,
    ended: bool,
) -> Result<UpstreamStream<'l>, Abort> {
    let request = write_request(head).map_err(Abort::Protocol)?;
    let (answer, body) = lease.send.send_request(request, ended)?;
    let sink = Sink::H2(H2Sink::new(body, ended));
    Ok(UpstreamStream {
        sink,
        answer: Answer::H2(H2Answer { head: answer, interim: 0, body: None }),
    })
}

impl<'l> Answer<'l> {
    /// Waits for the next head into `head`. Can be dropped and called again at any time.
    ///
    /// # Errors
    /// The answer broke, or broke the protocol.
    pub async fn next(&mut self, head: &mut ResponseHead) -> Result<Arrived, Abort> {
        match self {
            Self::H1(answer) => answer.next(head).await,
            Self::H2(answer) => answer.next(head).await,
        }
    }

    /// Whether any byte of the answer came.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        match self {
            Self::H1(answer) => answer.touched,
            Self::H2(_) => false,
        }
    }

    /// The body behind the final head.
    #[must_use]
    pub fn into_body(self, head: FinalHead) -> Body<'l> {
        match self {
            Self::H2(answer) => answer.body.map_or(Body::Empty, Body::H2),
            Self::H1(answer) => Body::H1(H1Body::new(answer.source, head.framing)),
        }
    }
}

/// One more interim answer.
fn count_interim(count: &mut u32) -> Result<Arrived, Abort> {
    *count += 1;
    match *count > MAX_INTERIM {
        true => Err(Abort::Protocol("too many interim answers")),
        false => Ok(Arrived::Interim),
    }
}

impl H2Answer {
    async fn next(&mut self, head: &mut ResponseHead) -> Result<Arrived, Abort> {
        if let Some(interim) = poll_fn(|cx| self.head.poll_informational(cx)).await {
            let (parts, ()) = interim?.into_parts();
            head.clear();
            read_response(&parts, head, &UPSTREAM_CODEC).map_err(Abort::Protocol)?;
            if head.status == 101 {
                // RFC 9113 §8.6: HTTP/2 has no such answer.
                return Err(Abort::Protocol("a switch of protocols in HTTP/2"));
            }
            return count_interim(&mut self.interim);
        }
        let (parts, body) = (&mut self.head).await?.into_parts();
        head.clear();
        read_response(&parts, head, &UPSTREAM_CODEC).map_err(Abort::Protocol)?;
        let body = H2Body::new(body);
        let framing = if body.is_end() { Framing::None } else { Framing::Chunked };
        self.body = Some(body);
        Ok(Arrived::Final(FinalHead { framing, reusable: true }))
    }
}

impl H1Answer<'_> {
    async fn next(&mut self, head: &mut ResponseHead) -> Result<Arrived, Abort> {
        loop {
            let unread = self.source.buffer.unread();
            self.touched |= !unread.is_empty();
            let parsed = match unread {
                [] => None,
                bytes => self
                    .parser
                    .parse_response(bytes, head, &self.context, self.source.settings)
                    .map_err(Abort::from)?,
            };
            if let Some(parsed) = parsed {
                self.source.buffer.consume(parsed.head_len);
                self.parser = HeadParser::new();
                if head.is_interim() {
                    return count_interim(&mut self.interim);
                }
                let framing = parsed.framing;
                let reusable = parsed.is_reusable && head.version == Version::Http11;
                return Ok(Arrived::Final(FinalHead { framing, reusable }));
            }
            if self.source.buffer.fill(self.source.io, self.source.pool).await? == 0 {
                // A head that stops in its middle is none.
                return Err(match self.touched {
                    true => Abort::Protocol("http1.codec_error"),
                    false => Abort::Truncated,
                });
            }
        }
    }
}
