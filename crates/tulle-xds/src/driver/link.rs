//! One connection to a server: waited for, dialled, open or lost.
//!
//! Everything here may be dropped between two events without losing one: the loop of the client
//! waits for many things at once.

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::dial::{self, DIAL_LIMIT, Dial, DialError};
use super::variant::Variant;

/// Requests that wait for the transport; with more the server does not read, and the stream ends.
const REQUESTS_QUEUED: usize = 256;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Nobody answers there.
    #[error("cannot connect")]
    Dial(#[source] DialError),
    /// Nobody answered in time.
    #[error("no connection within {} s", DIAL_LIMIT.as_secs())]
    Slow,
    /// The server ended the stream with an error, or the connection broke.
    #[error("the stream broke: {0}")]
    Broken(Box<Status>),
    /// The server ended the stream.
    #[error("the server ended the stream")]
    Ended,
}

/// What happened to a link.
#[derive(Debug)]
pub(super) enum Event<R> {
    /// There is a stream.
    Open,
    /// A message came.
    Message(R),
    /// There is no stream (any more).
    Lost(Lost),
}

type Dialling = Pin<Box<dyn Future<Output = Result<Channel, Lost>> + Send>>;
type Calling<R> = Pin<Box<dyn Future<Output = Result<Response<Streaming<R>>, Status>> + Send>>;

/// A connection to a server.
pub(super) struct Link<V: Variant, D> {
    server: D,
    state: State<V>,
}

enum State<V: Variant> {
    /// Until somebody says when to connect.
    Idle,
    Waiting(Instant),
    Dialling(Dialling),
    Open {
        requests: mpsc::Sender<V::Out>,
        responses: Responses<V::In>,
    },
}

enum Responses<R> {
    /// The server has not answered the call; it may be waiting for the first message.
    Calling(Calling<R>),
    Streaming(Box<Streaming<R>>),
}

impl<V: Variant, D: Dial> Link<V, D> {
    /// No connection.
    pub(super) fn new(server: D) -> Link<V, D> {
        Link { server, state: State::Idle }
    }

    /// Connects after a while; whatever there was is given up.
    pub(super) fn connect(&mut self, after: Duration) {
        self.state = State::Waiting(Instant::now() + after);
    }

    /// Gives up whatever there is.
    pub(super) fn end(&mut self) {
        self.state = State::Idle;
    }

    /// Hands a message to the transport; false if there is no stream or it takes no more.
    pub(super) fn send(&self, message: V::Out) -> bool {
        match &self.state {
            State::Open { requests, .. } => requests.try_send(message).is_ok(),
            _ => false,
        }
    }

    /// The next event; never comes back while the link is idle.
    pub(super) async fn next(&mut self) -> Event<V::In> {
        loop {
            match &mut self.state {
                State::Idle => std::future::pending().await,
                State::Waiting(at) => {
                    tokio::time::sleep_until(*at).await;
                    self.state = State::Dialling(limited(self.server.dial()));
                }
                State::Dialling(dialling) => match dialling.await {
                    Ok(channel) => {
                        self.open(channel);
                        return Event::Open;
                    }
                    Err(lost) => return self.lose(lost),
                },
                State::Open { responses, .. } => match responses.next().await {
                    Ok(Some(message)) => return Event::Message(message),
                    Ok(None) => return self.lose(Lost::Ended),
                    Err(status) => return self.lose(Lost::Broken(Box::new(status))),
                },
            }
        }
    }

    fn open(&mut self, channel: Channel) {
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED);
        let call = V::call(channel, request(ReceiverStream::new(queue), self.server.headers()));
        let responses = Responses::Calling(Box::pin(call));
        self.state = State::Open { requests, responses };
    }

    fn lose(&mut self, lost: Lost) -> Event<V::In> {
        self.state = State::Idle;
        Event::Lost(lost)
    }
}

impl<R> Responses<R> {
    async fn next(&mut self) -> Result<Option<R>, Status> {
        loop {
            match self {
                Responses::Calling(call) => {
                    let streaming = call.await?.into_inner();
                    *self = Responses::Streaming(Box::new(streaming));
                }
                Responses::Streaming(streaming) => return streaming.message().await,
            }
        }
    }
}

/// A call with its metadata; what is none is left out.
fn request<T>(message: T, headers: &[(String, String)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        let name = MetadataKey::<Ascii>::from_str(name);
        let value = MetadataValue::<Ascii>::from_str(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            request.metadata_mut().append(name, value);
        }
    }
    request
}

fn limited(dialling: dial::Dialling) -> Dialling {
    Box::pin(async move {
        match tokio::time::timeout(DIAL_LIMIT, dialling).await {
            Ok(connected) => connected.map_err(Lost::Dial),
            Err(_) => Err(Lost::Slow),
        }
    })
}
