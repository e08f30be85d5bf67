//! Planted bugs: what a core with the bug would do is done to its messages on the way.

use std::collections::BTreeMap;

use tulle_xds::session::message::{Nonce, Resource, ResourceType, Version};

use super::peer::{Request, Response};
use super::random::Random;

/// A bug that the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// Now and then a response is not acknowledged.
    LostAck,
    /// Now and then an ACK names the response before the one it is for.
    StaleNonce,
    /// Now and then one of several removals, or a whole list, is left out.
    MissedRemoval,
    /// Now and then what was sent last is sent once more.
    SentAgain,
    /// A client comes back without saying what it holds.
    ResumeWithoutVersions,
    /// The server does not order its types: every type is served as if it were alone.
    ReorderedTypes,
}

pub struct Saboteur {
    bug: Bug,
    random: Random,
    /// The newest nonce of each client's stream and type.
    nonces: BTreeMap<(usize, u64, ResourceType), Nonce>,
    /// What each stream's last state-of-the-world response of a type had.
    last: BTreeMap<(usize, u64, ResourceType), Vec<Resource>>,
}

impl Saboteur {
    pub fn new(bug: Bug, seed: u64) -> Saboteur {
        let (nonces, last) = (BTreeMap::new(), BTreeMap::new());
        Saboteur { bug, random: Random::new(!seed), nonces, last }
    }

    pub fn splits_types(&self) -> bool {
        self.bug == Bug::ReorderedTypes
    }

    /// Whether the request is to be sent at all.
    pub fn tamper_request(&mut self, client: usize, stream: u64, request: &mut Request) -> bool {
        let key = (client, stream, request.rtype());
        match (self.bug, request) {
            (Bug::LostAck, request) if request.nonce().is_some() => !self.random.chance(1, 16),
            (Bug::StaleNonce, request) => {
                let Some(newest) = request.nonce().cloned() else { return true };
                if let Some(before) = self.nonces.insert(key, newest)
                    && self.random.chance(1, 4)
                {
                    request.set_nonce(before);
                }
                true
            }
            (Bug::ResumeWithoutVersions, Request::Delta(request)) => {
                request.initial_versions.clear();
                true
            }
            (Bug::ResumeWithoutVersions, Request::Sotw(request)) => {
                if request.nonce.is_none() {
                    request.version = Version::default();
                }
                true
            }
            _ => true,
        }
    }

    pub fn tamper_response(&mut self, client: usize, stream: u64, response: &mut Response) {
        let response = match response {
            Response::Delta(response) => {
                if self.bug == Bug::MissedRemoval && self.random.chance(1, 4) {
                    response.removed.pop();
                }
                return;
            }
            Response::Sotw(response) => response,
        };
        let again = match self.bug {
            Bug::MissedRemoval => response.rtype.whole_state(),
            Bug::SentAgain => !response.rtype.whole_state(),
            _ => return,
        };
        let sent = response.resources.clone();
        let key = (client, stream, response.rtype);
        if let Some(last) = self.last.insert(key, sent)
            && again
            && self.random.chance(1, 4)
        {
            let is_new = |one: &Resource| response.resources.iter().all(|r| r.name != one.name);
            let missing = last.into_iter().find(is_new);
            response.resources.extend(missing);
        }
    }
}
