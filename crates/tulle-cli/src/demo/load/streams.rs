//! Long streams held beside the requests: each says something every second and expects it back.
//! A stream that ends before its time is a failure.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Protocol;
use super::lane::{ECHO, ECHO_CALL, Lane, failure_of, io_outcome};
use super::report::{Failure, Outcome, Recorder};

/// How often a stream speaks.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// How long a stream is held, and how long what it waits for may take: to be open, or an echo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub time: Duration,
    pub limit: Duration,
}

/// Holds one stream for as long as requests are sent; streams begin spread over a period. Whoever
/// calls has counted it as sent.
pub(super) async fn hold(lane: &Lane, recorder: &Recorder, number: usize, span: Span) {
    let end = Instant::now() + span.time;
    sleep(PERIOD / 50 * u32::try_from(number % 50).unwrap_or(0)).await;
    let started = Instant::now();
    match echo_until(lane, recorder, end, span.limit).await {
        Ok(slowest) => recorder.answered(slowest, None),
        Err(failure) => {
            let lived = started.elapsed();
            let detail = format!("stream {number} after {lived:?}: {}", failure.detail);
            recorder.failed(failure.outcome, &detail);
        }
    }
}

/// Speaks until `end`; the slowest echo.
async fn echo_until(
    lane: &Lane,
    recorder: &Recorder,
    end: Instant,
    limit: Duration,
) -> Result<Duration, Failure> {
    let mut stream = within(limit, "not open", Stream::open(lane)).await?;
    recorder.stream_opened();
    let mut slowest = Duration::ZERO;
    while Instant::now() < end {
        let said = Instant::now();
        within(limit, "no echo", stream.echo()).await?;
        slowest = slowest.max(said.elapsed());
        sleep(PERIOD).await;
    }
    Ok(slowest)
}

/// Nothing that a stream waits for may take longer than `limit`: one that hangs is a failure.
async fn within<T>(
    limit: Duration,
    what: &str,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| Failure::new(Outcome::Timeout, format!("{what} after {limit:?}"));
    timeout(limit, step).await.map_err(late)?
}

enum Stream {
    Tcp(TcpStream),
    Call { messages: mpsc::Sender<Bytes>, answers: Incoming, held: BytesMut },
}

impl Stream {
    async fn open(lane: &Lane) -> Result<Self, Failure> {
        let tcp = lane.dial().await?;
        if lane.protocol == Protocol::Tcp {
            return Ok(Self::Tcp(tcp));
        }
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await;
        let (mut sender, connection) = handshake.map_err(|error| failure_of(&error))?;
        tokio::task::spawn_local(connection);
        let (messages, receiver) = mpsc::channel(1);
        let request = lane.call(Messages(receiver))?;
        let response = sender.send_request(request).await.map_err(|error| failure_of(&error))?;
        if !response.status().is_success() {
            return Err(Failure::new(Outcome::ServerError, response.status()));
        }
        Ok(Self::Call { messages, answers: response.into_body(), held: BytesMut::new() })
    }

    async fn echo(&mut self) -> Result<(), Failure> {
        match self {
            Self::Tcp(stream) => {
                let mut back = [0; ECHO.len()];
                let echoed = async {
                    stream.write_all(ECHO).await?;
                    stream.read_exact(&mut back).await
                };
                echoed.await.map_err(|error| Failure::new(io_outcome(&error), error))?;
                same(&back, ECHO)
            }
            Self::Call { messages, answers, held } => {
                let gone = |_| Failure::new(Outcome::Reset, "the stream has ended");
                messages.send(Bytes::from_static(ECHO_CALL)).await.map_err(gone)?;
                while held.len() < ECHO_CALL.len() {
                    held.extend_from_slice(&next_data(answers).await?);
                }
                same(&held.split_to(ECHO_CALL.len()), ECHO_CALL)
            }
        }
    }
}

fn same(back: &[u8], sent: &[u8]) -> Result<(), Failure> {
    if back == sent { Ok(()) } else { Err(Failure::new(Outcome::Wrong, "not what was sent")) }
}

async fn next_data(answers: &mut Incoming) -> Result<Bytes, Failure> {
    match answers.frame().await {
        Some(Ok(frame)) => frame
            .into_data()
            .map_err(|frame| Failure::new(Outcome::Cut, format!("trailers: {frame:?}"))),
        Some(Err(error)) => Err(failure_of(&error)),
        None => Err(Failure::new(Outcome::Cut, "the stream has ended")),
    }
}

/// A request body of messages that are still to come.
#[derive(Debug)]
pub(super) struct Messages(mpsc::Receiver<Bytes>);

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}
