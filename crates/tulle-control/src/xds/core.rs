//! What the task of a stream needs of either protocol variant: the session core and its messages
//! on the wire.

use std::time::Instant;

use tulle_xds::proto::envoy::config::core::v3::Node;
use tulle_xds::proto::envoy::service::discovery::v3 as discovery;
use tulle_xds::session::delta_server::DeltaServer;
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::{StreamError, Verdict, View};
use tulle_xds::session::sotw_server::SotwServer;

use super::wire;
use crate::status::{Subscription, Variant};

/// A session core and the messages it speaks.
pub(super) trait Core: Default + Send + 'static {
    /// What comes.
    type Request: Send + 'static;
    /// What goes.
    type Response: Send + 'static;
    /// Which variant this is.
    const VARIANT: Variant;

    /// The node of a request, if it has one.
    fn node(request: &Self::Request) -> Option<&Node>;
    /// The type URL of a request.
    fn type_url(request: &Self::Request) -> &str;
    /// Takes in a request of a type that is served.
    fn handle(
        &mut self,
        rtype: ResourceType,
        request: Self::Request,
    ) -> Result<Option<Verdict>, StreamError>;
    /// Notes that a name may have changed.
    fn mark_dirty(&mut self, rtype: ResourceType, name: &Name);
    /// Notes that anything of a type may have changed.
    fn mark_all_dirty(&mut self, rtype: ResourceType);
    /// What goes out now, with what it is for the status.
    fn offer(&mut self, view: &impl View, now: Instant) -> Vec<(Sent, Self::Response)>;
    /// When to offer even if nothing happens.
    fn deadline(&self) -> Option<Instant>;
    /// Whether nothing is under way or waiting: the client holds what it is to have.
    fn idle(&self) -> bool;
    /// How a type stands.
    fn subscription(&self, rtype: ResourceType) -> Subscription;
}

/// What is known of a response that goes out.
pub(super) struct Sent {
    /// Its type.
    pub(super) rtype: ResourceType,
    /// How many resources it has.
    pub(super) resources: usize,
}

macro_rules! subscription {
    ($core:expr, $rtype:expr) => {
        Subscription {
            asked: $core.asked($rtype).count(),
            wildcard: $core.asked($rtype).any(|name| name == "*"),
            held: $core.sent($rtype).map(|(n, v)| (n.clone(), v.clone())).collect(),
            in_flight: $core.in_flight($rtype),
            rejected: $core.rejected($rtype).map(str::to_owned),
        }
    };
}

impl Core for DeltaServer {
    type Request = discovery::DeltaDiscoveryRequest;
    type Response = discovery::DeltaDiscoveryResponse;
    const VARIANT: Variant = Variant::Delta;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn handle(
        &mut self,
        rtype: ResourceType,
        request: Self::Request,
    ) -> Result<Option<Verdict>, StreamError> {
        self.handle(wire::delta_request(rtype, request))
    }

    fn mark_dirty(&mut self, rtype: ResourceType, name: &Name) {
        self.mark_dirty(rtype, name);
    }

    fn mark_all_dirty(&mut self, rtype: ResourceType) {
        self.mark_all_dirty(rtype);
    }

    fn offer(&mut self, view: &impl View, now: Instant) -> Vec<(Sent, Self::Response)> {
        let responses = self.offer(view, now).into_iter();
        let with_sent = responses.map(|response| {
            let sent = Sent { rtype: response.rtype, resources: response.resources.len() };
            (sent, wire::delta_response(response))
        });
        with_sent.collect()
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline()
    }

    fn idle(&self) -> bool {
        self.deadline().is_none() && !ResourceType::ALL.iter().any(|rtype| self.in_flight(*rtype))
    }

    fn subscription(&self, rtype: ResourceType) -> Subscription {
        subscription!(self, rtype)
    }
}

impl Core for SotwServer {
    type Request = discovery::DiscoveryRequest;
    type Response = discovery::DiscoveryResponse;
    const VARIANT: Variant = Variant::StateOfTheWorld;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn handle(
        &mut self,
        rtype: ResourceType,
        request: Self::Request,
    ) -> Result<Option<Verdict>, StreamError> {
        self.handle(wire::sotw_request(rtype, request))
    }

    fn mark_dirty(&mut self, rtype: ResourceType, name: &Name) {
        self.mark_dirty(rtype, name);
    }

    fn mark_all_dirty(&mut self, rtype: ResourceType) {
        self.mark_all_dirty(rtype);
    }

    fn offer(&mut self, view: &impl View, now: Instant) -> Vec<(Sent, Self::Response)> {
        let responses = self.offer(view, now).into_iter();
        let with_sent = responses.map(|response| {
            let sent = Sent { rtype: response.rtype, resources: response.resources.len() };
            (sent, wire::sotw_response(response))
        });
        with_sent.collect()
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline()
    }

    fn idle(&self) -> bool {
        self.deadline().is_none() && !ResourceType::ALL.iter().any(|rtype| self.in_flight(*rtype))
    }

    fn subscription(&self, rtype: ResourceType) -> Subscription {
        subscription!(self, rtype)
    }
}
