//! One stream: requests and changes go in, responses and status come out.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{broadcast, mpsc};
use tonic::{Status as GrpcStatus, Streaming};
use tulle_xds::session::message::{PerType, ResourceType};
use tulle_xds::session::server::{StreamError, Verdict};

use super::core::Core;
use crate::node::Node;
use crate::publish::{Dirty, Publisher};
use crate::status::{Inspection, Status, StreamGuard};

/// Serves one stream until the client ends it.
pub(super) async fn serve<C: Core>(
    mut requests: Streaming<C::Request>,
    responses: &mpsc::Sender<Result<C::Response, GrpcStatus>>,
    publisher: &Publisher,
    status: &Arc<Status>,
) -> Result<(), GrpcStatus> {
    let Some(first) = requests.message().await? else { return Ok(()) };
    let node = Node::read(C::node(&first));
    let node = node.map_err(|error| GrpcStatus::invalid_argument(error.to_string()))?;
    let mut changes = publisher.subscribe();
    let guard = status.connected(&node, C::VARIANT);
    let mut stream = Stream { core: C::default(), node, publisher, status: guard };
    stream.handle(first)?;
    loop {
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
            change = changes.recv() => stream.mark(change)?,
            inspection = stream.status.inspection() => stream.show(inspection),
            () = until(stream.core.deadline()) => {}
        }
    }
}

struct Stream<'a, C> {
    core: C,
    node: Node,
    publisher: &'a Publisher,
    status: StreamGuard,
}

impl<C: Core> Stream<'_, C> {
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

    fn mark(
        &mut self,
        change: Result<Arc<Dirty>, broadcast::error::RecvError>,
    ) -> Result<(), GrpcStatus> {
        let everything = Arc::new(Dirty::Everything);
        let dirty = match change {
            Ok(dirty) => dirty,
            Err(broadcast::error::RecvError::Lagged(_)) => everything,
            Err(broadcast::error::RecvError::Closed) => {
                return Err(GrpcStatus::unavailable("the control plane stops"));
            }
        };
        match &*dirty {
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
        Ok(())
    }

    fn offer(&mut self) -> Vec<C::Response> {
        let view = self.publisher.view(&self.node.client);
        let generation = view.generation();
        let offered = self.core.offer(&view, Instant::now());
        drop(view);
        if offered.is_empty() && self.core.idle() {
            self.status.synced(generation);
        }
        let mut responses = Vec::new();
        for (sent, response) in offered {
            self.status.sent(sent.rtype, sent.resources, generation);
            responses.push(response);
        }
        responses
    }
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
