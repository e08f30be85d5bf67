//! What the delta and the state-of-the-world server cores have in common.
//!
//! A server core is one stream. It is level-triggered: it remembers what it has sent and which
//! names may have changed, and asks a [`View`] for what is true now whenever it may send.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use super::client::ERROR_DETAIL_BYTES;
use super::message::{Name, Nonce, ResourceType, Version};

/// Names one stream may subscribe to, per type.
pub const NAMES_LIMIT: usize = 65_536;
/// Bytes of one name.
pub const NAME_BYTES: usize = 4_096;
/// Bytes of names and bodies after which a delta response ends and the rest waits for its ACK; half
/// of what gRPC libraries accept as one message by default.
pub const RESPONSE_BYTES: usize = 2 * 1024 * 1024;

/// A resource as a client is to have it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its canonical name.
    pub name: Name,
    /// Its version: a hash of its content.
    pub version: Version,
    /// The encoded message.
    pub body: Bytes,
}

/// The world as one authenticated client may see it. What it may not see does not exist.
pub trait View {
    /// The resource with this name or alias.
    fn resource(&self, rtype: ResourceType, name: &str) -> Option<Served>;
    /// The canonical names that a wildcard subscription stands for.
    fn wildcard(&self, rtype: ResourceType) -> Vec<Name>;
    /// Whether a name is among those.
    fn in_wildcard(&self, rtype: ResourceType, name: &str) -> bool;
    /// Whether the client puts a changed cluster to use only when its endpoints came after it,
    /// even if they are the same: then they are sent after it again. Envoy does, and accepts
    /// nothing more of clusters until they came.
    fn rewarms(&self) -> bool {
        false
    }
}

/// What a client said to a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The type of the response.
    pub rtype: ResourceType,
    /// The response.
    pub nonce: Nonce,
    /// Why it was rejected, in the client's words; `None` is an ACK.
    pub error: Option<String>,
}

/// A client went beyond a limit; its stream is to be ended with `RESOURCE_EXHAUSTED`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// More than [`NAMES_LIMIT`].
    #[error("more than {NAMES_LIMIT} names of type {0} on one stream")]
    TooManyNames(ResourceType),
    /// More than [`NAME_BYTES`].
    #[error("a name of type {0} is longer than {NAME_BYTES} bytes")]
    NameTooLong(ResourceType),
}

/// Checks the names of a request.
pub(super) fn check_names<'a>(
    rtype: ResourceType,
    mut names: impl Iterator<Item = &'a Name>,
) -> Result<(), StreamError> {
    match names.any(|name| name.len() > NAME_BYTES) {
        true => Err(StreamError::NameTooLong(rtype)),
        false => Ok(()),
    }
}

/// A response that waits for its ACK.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) nonce: Nonce,
    /// Whether it has something that is new to the client.
    pub(super) introduces: bool,
    /// The canonical names it brings in a new version.
    pub(super) names: Vec<Name>,
}

/// What the client may still hold an older version of, because it rejected a response.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    why: String,
    names: BTreeSet<Name>,
}

impl Rejected {
    /// Takes in the answer to a response. `whole`: an ACK accepts everything the client holds. The
    /// protocol does not say which resources a NACK is about, but clients name them in its text;
    /// if none is named, or the text may be cut, all are meant.
    pub(super) fn answered(&mut self, flight: Flight, error: Option<&str>, whole: bool) {
        let Some(why) = error else {
            if whole {
                self.names.clear();
            }
            self.names.retain(|name| !flight.names.contains(name));
            return;
        };
        self.why = why[..why.floor_char_boundary(ERROR_DETAIL_BYTES)].to_owned();
        let mentioned = |name: &Name| why.contains(&**name);
        let cut = why.len() >= ERROR_DETAIL_BYTES / 2;
        let all = cut || !flight.names.iter().any(mentioned);
        for name in flight.names {
            if all || mentioned(&name) {
                self.names.insert(name);
            } else {
                self.names.remove(&name);
            }
        }
    }

    /// Keeps only what the client still holds.
    pub(super) fn retain(&mut self, held: impl Fn(&Name) -> bool) {
        self.names.retain(held);
    }

    /// The client's words, as long as they matter.
    pub(super) fn why(&self) -> Option<&str> {
        (!self.names.is_empty()).then_some(&*self.why)
    }
}

/// The nonces of one stream.
#[derive(Debug, Default)]
pub(super) struct Nonces(u64);

impl Nonces {
    pub(super) fn next(&mut self) -> Nonce {
        self.0 += 1;
        format!("{:x}", self.0).into()
    }
}

/// The earlier of two times, of which either may be missing.
pub(super) fn earliest(times: impl Iterator<Item = Option<Instant>>) -> Option<Instant> {
    times.flatten().min()
}

#[cfg(test)]
#[path = "server/fixture.rs"]
pub(super) mod fixture;
