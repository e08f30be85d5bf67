//! The agent service: one stream for each proxy, dialled by the proxy, over which it registers its
//! workload, says whether that takes traffic, and answers questions of operators.
//!
//! [`session`] is one stream; [`questions`] finds the stream of a proxy and waits for its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status as GrpcStatus, Streaming};
use tulle_xds::proto::tulle::v1 as proto;

use crate::ingest::registry::{SharedRegistry, StreamId};
use crate::publish::Publisher;
use crate::status::Status;
use crate::stop::Stop;

mod questions;
mod registration;
mod session;

pub use questions::{AskError, Questions};

/// How long a proxy may take to come back to a control plane that has restarted: its longest pause
/// between two attempts.
const RETURN_TIME: Duration = Duration::from_secs(5);
/// Messages that may wait for a slow proxy.
const DOWN_QUEUED: usize = 32;
/// Longest message of a proxy, in bytes: a part of an answer and its frame.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Serves agents.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<Shared>,
    stop: Stop,
}

/// What every stream needs.
pub(crate) struct Shared {
    pub(crate) registry: Arc<SharedRegistry>,
    pub(crate) questions: Arc<Questions>,
    pub(crate) status: Arc<Status>,
    pub(crate) in_force: InForce,
    /// When those are back who were connected before this control plane was restarted.
    pub(crate) all_back: Instant,
    next: AtomicU64,
}

/// What is published.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Version of the registry that the published world contains.
    pub registry: watch::Receiver<Option<u64>>,
    /// What publishes.
    pub publisher: Arc<Publisher>,
}

impl Agents {
    /// A service that registers into `registry`; `in_force` says which version of it is.
    #[must_use]
    pub fn new(
        registry: Arc<SharedRegistry>,
        questions: Arc<Questions>,
        status: Arc<Status>,
        in_force: InForce,
        stop: Stop,
    ) -> Self {
        let is_restart = !registry.entries().1.is_empty();
        let all_back = Instant::now() + if is_restart { RETURN_TIME } else { Duration::ZERO };
        let next = AtomicU64::new(1);
        let shared = Arc::new(Shared { registry, questions, status, in_force, all_back, next });
        Self { shared, stop }
    }
}

#[tonic::async_trait]
impl proto::agent_server::Agent for Agents {
    type ConnectStream = ReceiverStream<Result<proto::AgentDown, GrpcStatus>>;

    async fn connect(
        &self,
        request: Request<Streaming<proto::AgentUp>>,
    ) -> Result<Response<Self::ConnectStream>, GrpcStatus> {
        let (down, messages) = mpsc::channel(DOWN_QUEUED);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        let stream = StreamId(shared.next.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(async move {
            let end = tokio::select! {
                end = session::serve(request.into_inner(), &down, &shared, stream) => end,
                () = stop.requested() => Err(GrpcStatus::unavailable("the control plane stops")),
            };
            if let Err(end) = end {
                // A proxy that is gone does not want to know.
                let _ = down.send(Err(end)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
