//! The session with the control plane without its transport: messages in, messages and changes
//! out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tulle_model::lookup::{Absence, Needed};
use tulle_model::resource::{Resource, ResourceKind};
use tulle_model::snapshot::Change;
use tulle_xds::decode;
use tulle_xds::proto::envoy::service::discovery::v3 as wire;
use tulle_xds::proto::google::rpc::Status;
use tulle_xds::session::client::{AbsentReason, Answer, ClientCore, Delivery};
use tulle_xds::session::delta_client::DeltaClient;
use tulle_xds::session::graph::{Key, Referrer};
use tulle_xds::session::message::{
    DeltaRequest, DeltaResponse, Name, Resource as Encoded, ResourceType,
};
use tulle_xds::session::on_demand::{Change as Told, Input, Kept, OnDemand, Output};

use crate::discovery::saved::SavedResource;

/// `INVALID_ARGUMENT`: a resource was refused.
const INVALID_ARGUMENT: i32 = 3;

/// A decoded resource in the graph of the session.
#[derive(Clone, Debug)]
struct Held(Resource);

impl Referrer for Held {
    fn references(&self) -> Vec<Key> {
        let key = |need: Needed| (type_of(need.kind()), Name::from(need.name()));
        self.0.references().into_iter().map(key).collect()
    }
}

/// What the session wants done.
#[derive(Debug)]
pub enum Wish {
    /// Send this; a node in it is to be filled in.
    Send(Box<wire::DeltaDiscoveryRequest>),
    /// Open a stream after so long.
    Connect(Duration),
    /// End the stream, for this reason.
    Close(&'static str),
    /// Apply these changes, together.
    Change(Learnt),
}

/// Changes of the configuration, with the versions of what was put.
#[derive(Debug, Default)]
pub struct Learnt {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// Versions by the control plane's word.
    pub versions: Vec<(Needed, Arc<str>)>,
}

/// One session over many streams.
#[derive(Debug)]
pub struct Session {
    client: OnDemand<DeltaClient, Held>,
    /// Every accepted resource as it came, to be kept on disk.
    bodies: BTreeMap<Key, Bytes>,
    /// Something changed since [`Session::to_save`] was asked.
    unsaved: bool,
}

impl Session {
    /// A session that asks for what binds on this node, and for the rest when it is needed.
    #[must_use]
    pub fn on_demand(seed: u64, now: Instant) -> Self {
        let mut client = OnDemand::new(DeltaClient::new(seed));
        client.subscribe_wildcard(ResourceType::Listener, false, now);
        Self { client, bodies: BTreeMap::new(), unsaved: false }
    }

    /// A session that asks for all listeners, all clusters, or both.
    #[must_use]
    pub fn wildcard(seed: u64, listeners: bool, clusters: bool, now: Instant) -> Self {
        let mut client = OnDemand::new(DeltaClient::new(seed));
        if clusters {
            client.subscribe_wildcard(ResourceType::Cluster, true, now);
        }
        if listeners {
            client.subscribe_wildcard(ResourceType::Listener, true, now);
        }
        Self { client, bodies: BTreeMap::new(), unsaved: false }
    }

    /// Takes back what an earlier process kept, before the first stream. What cannot be read any
    /// more is left out.
    pub fn restore(&mut self, saved: Vec<SavedResource>, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for SavedResource { rtype, name, version, asked, body } in saved {
            let decoded = match decode::resource(kind_of(rtype), &body) {
                Ok(decoded) => decoded.value,
                Err(found) => {
                    tracing::warn!(resource = %name, %found, "a kept resource is left out");
                    continue;
                }
            };
            let key = (rtype, name);
            self.bodies.insert(key.clone(), body);
            let kept = Kept { key, version, asked, value: Held(decoded) };
            let told = self.client.restore(kept, now);
            changes.extend(told.into_iter().filter_map(change));
        }
        changes
    }

    /// What is to be kept, if it changed since this was asked last.
    pub fn to_save(&mut self) -> Option<Vec<SavedResource>> {
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        let (core, bodies) = (self.client.core(), &self.bodies);
        let all = ResourceType::ALL.into_iter().flat_map(|rtype| {
            core.held(rtype).filter_map(move |(name, version)| {
                let body = bodies.get(&(rtype, name.clone()))?.clone();
                let asked = core.asked_by(rtype, name);
                Some(SavedResource {
                    rtype,
                    name: name.clone(),
                    version: version.clone(),
                    asked,
                    body,
                })
            })
        });
        Some(all.collect())
    }

    /// A stream is open.
    pub fn connected(&mut self, now: Instant) -> Vec<Wish> {
        self.feed(Input::Connected, now)
    }

    /// The stream ended, or could not be opened.
    pub fn disconnected(&mut self, now: Instant) -> Vec<Wish> {
        self.feed(Input::Disconnected, now)
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Wish> {
        self.feed(Input::Tick, now)
    }

    /// A worker needs a name, or uses it still.
    pub fn needed(&mut self, need: Needed, now: Instant) -> Vec<Wish> {
        match need {
            Needed::Listener(name) => self.feed(Input::Use(name.shared()), now),
            // Names of other kinds follow from listeners; one that does not is not there.
            other => {
                let changes = vec![Change::Absent(other, Absence::NotFound)];
                vec![Wish::Change(Learnt { changes, versions: Vec::new() })]
            }
        }
    }

    /// A message came.
    pub fn response(&mut self, response: wire::DeltaDiscoveryResponse, now: Instant) -> Vec<Wish> {
        match ResourceType::from_type_url(&response.type_url) {
            Some(rtype) => self.feed(Input::Response(read_response(rtype, response)), now),
            None => vec![Wish::Close("a response of a type that was not asked for")],
        }
    }

    fn feed(&mut self, input: Input<DeltaResponse, Held>, now: Instant) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut changes = Vec::new();
        let mut shown = Vec::new();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.client.handle(input, now) {
                match output {
                    Output::Send(request) => wishes.push(Wish::Send(write_request(request))),
                    Output::Connect { after } => wishes.push(Wish::Connect(after)),
                    Output::Close { reason } => wishes.push(Wish::Close(reason)),
                    Output::Decode(delivery) => inputs.push(self.decoded(delivery)),
                    Output::Change(told) => {
                        if let Told::Shown { rtype, name, .. } = &told {
                            shown.push((*rtype, name.clone()));
                        }
                        changes.extend(change(told));
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.unsaved = true;
            // Changes first: an ACK says that they were made.
            let versions = self.versions(&shown);
            wishes.insert(0, Wish::Change(Learnt { changes, versions }));
        }
        wishes
    }

    fn versions(&self, shown: &[Key]) -> Vec<(Needed, Arc<str>)> {
        let core = self.client.core();
        let version = |(rtype, name): &Key| {
            let version = core.version(*rtype, name)?;
            Some((Needed::of(kind_of(*rtype), name), version.clone()))
        };
        shown.iter().filter_map(version).collect()
    }

    /// Decodes every resource of a delivery; each is taken or refused by itself.
    fn decoded(&mut self, delivery: Delivery) -> Input<DeltaResponse, Held> {
        let kind = kind_of(delivery.rtype);
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for Encoded { name, body, .. } in delivery.resources {
            let Some(body) = body else { continue };
            match decode::resource(kind, &body) {
                Ok(decoded) => {
                    for warning in &decoded.warnings {
                        tracing::warn!(resource = %name, "{warning}");
                    }
                    self.bodies.insert((delivery.rtype, name.clone()), body);
                    accepted.push((name, Held(decoded.value)));
                }
                Err(found) => {
                    let why = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>();
                    let why = why.join("; ");
                    tracing::warn!(resource = %name, why, "a resource is refused");
                    rejected.push((name, why));
                }
            }
        }
        Input::Decoded { delivery: delivery.id, rtype: delivery.rtype, accepted, rejected }
    }
}

/// What the session tells, as a change of the configuration.
fn change(told: Told<Held>) -> Option<Change> {
    match told {
        Told::Shown { value, .. } => Some(Change::Put(value.0, Vec::new())),
        Told::Hidden { rtype, name } => Some(Change::Forget(Needed::of(kind_of(rtype), &name))),
        Told::Answered { name, answer } => match answer {
            Answer::Unknown => Some(Change::Forget(Needed::Listener(name.into()))),
            Answer::Present(canonical) if canonical == name => None,
            Answer::Present(canonical) => Some(Change::Alias(name.into(), canonical.into())),
            Answer::Absent(AbsentReason::TooManyNewNames) => None,
            Answer::Absent(reason) => {
                let absence = match reason {
                    AbsentReason::Rejected(why) => Absence::Rejected(why),
                    AbsentReason::Unanswered => Absence::TimedOut,
                    AbsentReason::NotFound | AbsentReason::TooManyNewNames => Absence::NotFound,
                };
                Some(Change::Absent(Needed::Listener(name.into()), absence))
            }
        },
    }
}

fn type_of(kind: ResourceKind) -> ResourceType {
    match kind {
        ResourceKind::Cluster => ResourceType::Cluster,
        ResourceKind::Endpoints => ResourceType::Endpoints,
        ResourceKind::Listener => ResourceType::Listener,
        ResourceKind::Routes => ResourceType::Route,
    }
}

fn kind_of(rtype: ResourceType) -> ResourceKind {
    match rtype {
        ResourceType::Cluster => ResourceKind::Cluster,
        ResourceType::Endpoints => ResourceKind::Endpoints,
        ResourceType::Listener => ResourceKind::Listener,
        ResourceType::Route => ResourceKind::Routes,
    }
}

fn write_request(request: DeltaRequest) -> Box<wire::DeltaDiscoveryRequest> {
    let texts = |names: Vec<Name>| names.iter().map(|name| (**name).to_owned()).collect();
    let versions = request.initial_versions.iter();
    Box::new(wire::DeltaDiscoveryRequest {
        node: request.with_node.then(Default::default),
        type_url: request.rtype.type_url().to_owned(),
        resource_names_subscribe: texts(request.subscribe),
        resource_names_unsubscribe: texts(request.unsubscribe),
        initial_resource_versions: versions
            .map(|(name, version)| ((**name).to_owned(), (**version).to_owned()))
            .collect(),
        response_nonce: request.nonce.as_deref().unwrap_or_default().to_owned(),
        error_detail: request.error.map(|message| Status {
            code: INVALID_ARGUMENT,
            message,
            ..Status::default()
        }),
        ..Default::default()
    })
}

fn read_response(rtype: ResourceType, response: wire::DeltaDiscoveryResponse) -> DeltaResponse {
    let names = |names: Vec<String>| names.into_iter().map(Arc::from).collect();
    let resource = |resource: wire::Resource| Encoded {
        name: resource.name.into(),
        aliases: names(resource.aliases),
        version: resource.version.into(),
        body: resource.resource.map(|any| any.value),
    };
    DeltaResponse {
        rtype,
        nonce: response.nonce.into(),
        resources: response.resources.into_iter().map(resource).collect(),
        removed: names(response.removed_resources),
        system_version: response.system_version_info.into(),
    }
}
