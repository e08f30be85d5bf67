//! Planted bugs: what a core with the bug would do is done to its messages on the way.

use std::collections::BTreeMap;

use tulle_xds::session::message::{Nonce, ResourceType};

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
}

impl Saboteur {
    pub fn new(bug: Bug, seed: u64) -> Saboteur {
        Saboteur { bug, random: Random::new(!seed), nonces: BTreeMap::new() }
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
            _ => true,
        }
    }

    pub fn tamper_response(&mut self, response: &mut Response) {
        if let (Bug::MissedRemoval, Response::Delta(response)) = (self.bug, response)
            && self.random.chance(1, 4)
        {
            response.removed.pop();
        }
    }
}
