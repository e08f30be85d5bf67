//! What the task of a stream needs of either protocol variant: the session core and its messages
//! on the wire.

use std::time::Instant;

use tulle_xds::driver::wire;
use tulle_xds::proto::envoy::config::core::v3::Node;
use tulle_xds::proto::envoy::service::discovery::v3 as discovery;
use tulle_xds::session::delta_server::DeltaServer;
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::server::{StreamError, Verdict, View};
use tulle_xds::session::sotw_server::SotwServer;

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
    /// How many names the client asks for and holds.
    fn names(&self) -> usize;
    /// Whether the client asks for a name or holds it.
    fn wants(&self, rtype: ResourceType, name: &Name) -> bool;
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

/// One variant: its core, its messages, its readers and writers.
macro_rules! variant {
    ($core:ty, $variant:expr, $request:ty, $response:ty, $read:path, $write:path) => {
        impl Core for $core {
            type Request = $request;
            type Response = $response;
            const VARIANT: Variant = $variant;

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
                self.handle($read(rtype, request))
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
                    (sent, $write(response))
                });
                with_sent.collect()
            }

            fn deadline(&self) -> Option<Instant> {
                self.deadline()
            }

            fn idle(&self) -> bool {
                let in_flight = |rtype: ResourceType| self.in_flight(rtype);
                self.deadline().is_none() && !ResourceType::ALL.into_iter().any(in_flight)
            }

            fn names(&self) -> usize {
                self.names()
            }

            fn wants(&self, rtype: ResourceType, name: &Name) -> bool {
                self.wants(rtype, name)
            }

            fn subscription(&self, rtype: ResourceType) -> Subscription {
                Subscription {
                    asked: self.asked(rtype).count(),
                    wildcard: self.asked(rtype).any(|name| name == "*"),
                    held: self.sent(rtype).map(|(n, v)| (n.clone(), v.clone())).collect(),
                    in_flight: self.in_flight(rtype),
                    rejected: self.rejected(rtype).map(str::to_owned),
                }
            }
        }
    };
}

variant!(
    DeltaServer,
    Variant::Delta,
    discovery::DeltaDiscoveryRequest,
    discovery::DeltaDiscoveryResponse,
    wire::read_delta_request,
    wire::write_delta_response
);
variant!(
    SotwServer,
    Variant::StateOfTheWorld,
    discovery::DiscoveryRequest,
    discovery::DiscoveryResponse,
    wire::read_sotw_request,
    wire::write_sotw_response
);
