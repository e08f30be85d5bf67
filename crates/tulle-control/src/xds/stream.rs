//! One stream: requests and changes go in, responses and status come out.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio::sync::mpsc;
use tonic::{Status as GrpcStatus, Streaming};
use tulle_xds::session::message::{PerType, ResourceType};
use tulle_xds::session::server::{StreamError, Verdict};

use super::core::Core;
use crate::node::Node;
use crate::publish::watch::Watch;
use crate::publish::{Dirty, Key, Publisher};
use crate::status::{Inspection, Status, StreamGuard};

/// Requests taken in before they are answered, if they are there: an ACK and what it is followed
/// by need one answer.
const REQUESTS_AT_ONCE: usize = 64;

/// Serves one stream until the client ends it.
pub(super) async fn serve<C: Core>(
    mut requests: Streaming<C::Request>,
    responses: &mpsc::Sender<Result<C::Response, GrpcStatus>>,
    publisher: &Arc<Publisher>,
    status: &Arc<Status>,
) -> Result<(), GrpcStatus> {
    let Some(first) = requests.message().await? else { return Ok(()) };
    let node = Node::read(C::node(&first));
    let node = node.map_err(|error| GrpcStatus::invalid_argument(error.to_string()))?;
    let watch = publisher.watch(node.client.clone());
    let guard = status.connected(&node, C::VARIANT, watch.mailbox());
    let mut stream = Stream { core: C::default(), node, watch, status: guard };
    stream.handle(first)?;
    loop {
        // What came together is answered together.
        for _ in 0..REQUESTS_AT_ONCE {
            match already_there(&mut requests).await {
                Some(request) => match request? {
                    Some(request) => stream.handle(request)?,
                    None => return Ok(()),
                },
                None => break,
            }
        }
        stream.mark();
        for response in stream.offer() {
            if responses.send(Ok(response)).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            request = requests.message() => match request? {
                Some(request) => stream.handle(request)?,
                None => return Ok(()),
            },
            () = stream.watch.news() => {}
            inspection = stream.status.inspection() => stream.show(inspection),
            () = until(stream.core.deadline()) => {}
        }
    }
}

/// The next request, if it need not be waited for.
async fn already_there<T>(requests: &mut Streaming<T>) -> Option<Result<Option<T>, GrpcStatus>> {
    let mut next = pin!(requests.message());
    poll_fn(|context| match next.as_mut().poll(context) {
        Poll::Ready(request) => Poll::Ready(Some(request)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

struct Stream<C> {
    core: C,
    node: Node,
    watch: Watch,
    status: StreamGuard,
}

impl<C: Core> Stream<C> {
    fn handle(&mut self, request: C::Request) -> Result<(), GrpcStatus> {
        let Some(rtype) = ResourceType::from_type_url(C::type_url(&request)) else {
            let (node, type_url) = (&self.node.id, C::type_url(&request));
            tracing::debug!(node, type_url, "a type that is not served was asked for");
            return Ok(());
        };
        let verdict = self.core.handle(rtype, request).map_err(exhausted)?;
        if let Some(verdict) = verdict {
            self.note(&verdict);
        }
        Ok(())
    }

    fn note(&self, verdict: &Verdict) {
        if let Some(error) = &verdict.error {
            let (node, rtype) = (&self.node.id, verdict.rtype);
            tracing::warn!(node, %rtype, error, "a proxy refused a response");
        }
        self.status.answered(verdict);
    }

    fn show(&self, inspection: Inspection) {
        let mut subscriptions = PerType::default();
        for (rtype, subscription) in subscriptions.iter_mut() {
            *subscription = self.core.subscription(rtype);
        }
        // Whoever asked may have gone.
        let _ = inspection.send(subscriptions);
    }

    /// Has the core look again at what may have changed.
    fn mark(&mut self) {
        match self.watch.take() {
            Dirty::Everything => {
                for rtype in ResourceType::ALL {
                    self.core.mark_all_dirty(rtype);
                }
            }
            Dirty::Keys(keys) => {
                for key in keys {
                    match key.is_wildcard() {
                        true => self.core.mark_all_dirty(key.rtype),
                        false => self.core.mark_dirty(key.rtype, &key.name),
                    }
                }
            }
        }
    }

    fn offer(&mut self) -> Vec<C::Response> {
        let view = self.watch.view();
        let generation = view.generation();
        let offered = self.core.offer(&view, Instant::now());
        let news = view.settle(offered.is_empty() && self.core.idle());
        view.trim(self.core.names(), |key| wants(&self.core, key));
        drop(view);
        if news {
            self.status.progressed();
        }
        let mut responses = Vec::new();
        for (sent, response) in offered {
            self.status.sent(sent.rtype, sent.resources, generation);
            responses.push(response);
        }
        responses
    }
}

/// Whether a change of a name concerns a stream.
fn wants(core: &impl Core, key: &Key) -> bool {
    // Endpoints are read together with their cluster.
    key.is_wildcard()
        || core.wants(key.rtype, &key.name)
        || (key.rtype == ResourceType::Cluster && core.wants(ResourceType::Endpoints, &key.name))
}

fn exhausted(error: StreamError) -> GrpcStatus {
    GrpcStatus::resource_exhausted(error.to_string())
}

/// Ends at `deadline`, or never.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
