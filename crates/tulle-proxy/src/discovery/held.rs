//! A decoded resource in the graph of a session, and what is told of it.

use std::sync::Arc;

use bytes::Bytes;
use tulle_model::lookup::{Absence, Needed};
use tulle_model::resource::{Resource, ResourceKind};
use tulle_model::snapshot::Change;
use tulle_xds::session::client::{AbsentReason, Answer};
use tulle_xds::session::graph::{Key, Referrer};
use tulle_xds::session::message::{Name, ResourceType, Version};
use tulle_xds::session::on_demand::Change as Told;

use crate::upstream::dns::{Answered, names_of};

/// A resource that was accepted.
#[derive(Clone, Debug)]
pub struct Held {
    /// The resource.
    pub resource: Resource,
    /// Its version by the server's word.
    pub version: Version,
    /// The message it was decoded from; empty where nothing is kept on disk.
    pub body: Bytes,
    /// Which names are resolved, if it has to wait for its own.
    pub answered: Option<Answered>,
}

impl Held {
    /// A resource of our own configuration, with its key.
    #[must_use]
    pub fn own(resource: Resource) -> (Key, Self) {
        let key = (resource.kind().into(), Name::from(resource.name()));
        (key, Self { resource, version: Arc::default(), body: Bytes::new(), answered: None })
    }
}

impl Referrer for Held {
    fn references(&self) -> Vec<Key> {
        let key = |need: Needed| (need.kind().into(), Name::from(need.name()));
        self.resource.references().into_iter().map(key).collect()
    }

    /// A cluster of names is of use when each of them was asked for once, whatever the answer.
    fn is_warm(&self) -> bool {
        match (&self.answered, &self.resource) {
            (Some(answered), Resource::Cluster(cluster)) => {
                names_of(cluster).all(|(name, _)| answered.borrow().contains(name))
            }
            _ => true,
        }
    }
}

/// A name on the wire as decisions need it.
#[must_use]
pub fn needed(rtype: ResourceType, name: &str) -> Needed {
    Needed::of(ResourceKind::from(rtype), name)
}

/// What the session tells, as a change of the configuration.
#[must_use]
pub fn change(told: Told<Held>) -> Option<Change> {
    match told {
        Told::Shown { value, .. } => Some(Change::Put(value.resource, Vec::new())),
        Told::Hidden { rtype, name } => Some(Change::Forget(needed(rtype, &name))),
        Told::Answered { name, answer } => answered(name, answer),
    }
}

fn answered(name: Name, answer: Answer) -> Option<Change> {
    let absence = match answer {
        Answer::Unknown => return Some(Change::Forget(Needed::Listener(name.into()))),
        Answer::Present(canonical) if canonical == name => return None,
        Answer::Present(canonical) => return Some(Change::Alias(name.into(), canonical.into())),
        // Not to be remembered: whoever waits is told in another way, and may ask again.
        Answer::Absent(AbsentReason::TooManyNewNames) => return None,
        Answer::Absent(AbsentReason::Rejected(why)) => Absence::Rejected(why),
        Answer::Absent(AbsentReason::Unanswered) => Absence::TimedOut,
        Answer::Absent(AbsentReason::NotFound) => Absence::NotFound,
    };
    Some(Change::Absent(Needed::Listener(name.into()), absence))
}
