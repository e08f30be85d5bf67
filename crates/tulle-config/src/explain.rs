//! Explanation: what a proxy would do with a call, told step by step, nothing sent.
//!
//! Beside the configuration story: the resources come from [`crate::translate`], asked for by name
//! as the proxy asks, and the decisions are the proxy's own ([`tulle_model::decide`]) with a trace
//! that keeps their steps. Nothing is decided here.
//!
//! Reading order: [`question`] (as it is put) → [`call`] (what it means) → [`connection`] (which
//! listener and chain) → [`request`] (which route) → [`upstream`] (which cluster and endpoints) →
//! [`report`] (with files and lines); [`decided`] is the same as the proxy's record has it, and
//! [`store`] the loop that asks for what a decision needs.

use serde::Serialize;
use tulle_model::flag::ResponseFlag;
use tulle_model::name::ClusterName;
use tulle_model::trace::Step;

use crate::world::World;

mod call;
mod connection;
mod decided;
mod question;
mod report;
mod request;
mod store;
mod upstream;

pub use call::{Call, Dialled, Speaks, client_of};
pub use decided::{Decided, Fault, Sent};
pub use question::{Question, QuestionError};
pub use report::{PlaceReport, Report, StepReport};

use store::Store;

/// What a proxy would do with a call, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The steps of the decision, in order.
    pub steps: Vec<Step>,
    /// What was decided, field by field.
    pub decided: Decided,
    /// What comes out.
    pub end: End,
}

/// What comes out of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum End {
    /// It goes to one of these clusters.
    Forwarded {
        /// By weight; one for a single cluster.
        to: Vec<Share>,
    },
    /// The proxy sends the caller elsewhere.
    Redirected {
        /// Status.
        status: u16,
        /// Where to.
        location: String,
    },
    /// The proxy answers as the configuration says.
    Answered {
        /// Status.
        status: u16,
    },
    /// The proxy answers for want of anything better.
    Refused {
        /// Status.
        status: u16,
        /// Its flag in the access log.
        #[serde(serialize_with = "short")]
        flag: ResponseFlag,
        /// Why.
        why: String,
    },
    /// The connection is closed.
    Closed {
        /// Its flag in the access log.
        #[serde(serialize_with = "short")]
        flag: ResponseFlag,
        /// Why.
        why: String,
    },
}

impl End {
    /// Whether somebody behind the proxy, or the configuration itself, answers.
    pub fn is_good(&self) -> bool {
        match self {
            End::Forwarded { to } => to.iter().all(|share| share.problem.is_none()),
            End::Redirected { .. } | End::Answered { .. } => true,
            End::Refused { .. } | End::Closed { .. } => false,
        }
    }
}

fn short<S: serde::Serializer>(flag: &ResponseFlag, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(flag.short())
}

/// One cluster that a call may go to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The cluster.
    #[serde(serialize_with = "name")]
    pub cluster: ClusterName,
    /// Its part of the sum of all weights.
    pub weight: u32,
    /// Endpoints that take calls; for one that goes where the caller was going, that address.
    pub endpoints: Vec<String>,
    /// Why calls that go there fail, if they do.
    pub problem: Option<Problem>,
}

/// Why calls to a cluster fail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// What callers of HTTP get.
    pub status: u16,
    /// Its flag in the access log.
    #[serde(serialize_with = "short")]
    pub flag: ResponseFlag,
    /// Why.
    pub why: String,
}

fn name<S: serde::Serializer>(name: &ClusterName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

/// What the proxy of `call.from` does with the call in this world.
pub fn explain(world: &World, call: &Call) -> Explanation {
    let mut store = Store::new(world, &call.from);
    let end = connection::explain(&mut store, call);
    let (steps, decided) = store.into_told();
    Explanation { steps, decided, end }
}

#[cfg(test)]
mod tests;
