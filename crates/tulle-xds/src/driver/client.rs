//! The loop of an xDS client: a link, an on-demand client and what uses it.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::dial::Dial;
use super::link::{Event, Link, Lost};
use super::variant::Variant;
use crate::proto::envoy::config::core::v3::Node;
use crate::session::client::{ClientCore, Delivery, TICK_EVERY};
use crate::session::graph::Referrer;
use crate::session::message::{Name, Resource, ResourceType};
use crate::session::on_demand::{Change, Input, OnDemand, Output};

/// Names that are asked for in one message at most, if they came together.
const NAMES_AT_ONCE: usize = 1_024;

/// What uses an xDS client.
pub trait Application {
    /// A decoded resource.
    type Value: Referrer + Clone;

    /// These are there no more when what is decoded next is.
    fn removes(&mut self, _rtype: ResourceType, _names: &[Name]) {}

    /// Decodes a resource.
    ///
    /// # Errors
    /// The resource is rejected and keeps its last good version; the text, field path first, is
    /// told to the server.
    fn decode(&mut self, rtype: ResourceType, resource: &Resource) -> Result<Self::Value, String>;

    /// Takes over changes, in their order and at once. Called before the ACK goes out.
    fn apply(&mut self, changes: Vec<Change<Self::Value>>);

    /// Comes back when a resource that was decoded may have become warm ([`Referrer::is_warm`]).
    fn warmed(&self) -> impl Future<Output = ()> {
        std::future::pending()
    }

    /// There is a stream now, or none for this reason.
    fn linked(&mut self, state: Result<(), Lost>);

    /// Nothing follows any more from what happened. Also called every [`TICK_EVERY`].
    fn rested<C: ClientCore>(&mut self, session: &OnDemand<C, Self::Value>);
}

/// An xDS client on a network.
pub struct Client<V: Variant, A: Application> {
    /// Who this client is.
    pub node: Node,
    /// The session.
    pub session: OnDemand<V, A::Value>,
    /// Who uses it.
    pub application: A,
}

impl<V: Variant, A: Application> Client<V, A> {
    /// Connects, asks and learns until nobody can use a name any more: until every sender of
    /// `used` is gone. Names in use are to be repeated as [`Input::Use`] says.
    pub async fn run(mut self, server: impl Dial, mut used: mpsc::Receiver<Name>) {
        let mut link = Link::new(server);
        link.connect(Duration::ZERO);
        let mut ticks = tokio::time::interval(TICK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut names = Vec::new();
        loop {
            let input = tokio::select! {
                event = link.next() => self.event(event, &mut link),
                count = used.recv_many(&mut names, NAMES_AT_ONCE) => match count {
                    0 => return,
                    _ => Some(Input::Use(std::mem::take(&mut names))),
                },
                () = self.application.warmed() => Some(Input::Warmed),
                _ = ticks.tick() => Some(Input::Tick),
            };
            if let Some(input) = input {
                self.feed(input, &mut link);
                self.application.rested(&self.session);
            }
        }
    }

    fn event(
        &mut self,
        event: Event<V::In>,
        link: &mut Link<V, impl Dial>,
    ) -> Option<Input<V::Response, A::Value>> {
        match event {
            Event::Open => {
                self.application.linked(Ok(()));
                Some(Input::Connected)
            }
            Event::Lost(lost) => {
                self.application.linked(Err(lost));
                Some(Input::Disconnected)
            }
            Event::Message(message) => match V::read(message) {
                Ok(response) => Some(Input::Response(response)),
                Err(unexpected) => {
                    tracing::warn!(%unexpected, "the stream is ended");
                    link.end();
                    self.application.linked(Err(Lost::Ended));
                    Some(Input::Disconnected)
                }
            },
        }
    }

    /// Feeds the session until nothing follows any more.
    fn feed(&mut self, input: Input<V::Response, A::Value>, link: &mut Link<V, impl Dial>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let outputs = self.session.handle(input, Instant::now());
            let mut end = None;
            let mut changes = Vec::new();
            for output in outputs {
                match output {
                    Output::Decode(delivery) => inputs.push(self.decode(delivery)),
                    Output::Change(change) => changes.push(change),
                    Output::Connect { after } => link.connect(after),
                    Output::Close { reason } => end = Some(reason),
                    Output::Send(request) => {
                        // An ACK says that the changes were made.
                        self.apply(&mut changes);
                        if !link.send(V::write(request, &self.node)) {
                            end = Some("the server does not read what it is sent");
                        }
                    }
                }
            }
            self.apply(&mut changes);
            if let Some(reason) = end {
                tracing::warn!(reason, "the stream is ended");
                link.end();
                self.application.linked(Err(Lost::Ended));
                inputs.push(Input::Disconnected);
            }
        }
    }

    fn apply(&mut self, changes: &mut Vec<Change<A::Value>>) {
        if !changes.is_empty() {
            self.application.apply(std::mem::take(changes));
        }
    }

    /// Decodes every resource of a delivery; each is taken or refused by itself.
    fn decode(&mut self, delivery: Delivery) -> Input<V::Response, A::Value> {
        let Delivery { id, rtype, resources, removed } = delivery;
        self.application.removes(rtype, &removed);
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for resource in resources {
            match self.application.decode(rtype, &resource) {
                Ok(value) => accepted.push((resource.name, value)),
                Err(why) => rejected.push((resource.name, why)),
            }
        }
        Input::Decoded { delivery: id, rtype, accepted, rejected }
    }
}
