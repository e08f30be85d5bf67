//! What was decided, field by field, as a proxy's record has it: for programs, and for the test
//! that holds the two together.

use serde::Serialize;
use tulle_model::origin::Origin;

/// What was decided. Empty is what was not come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Decided {
    /// The listener that takes the connection (`%TULLE_LISTENER%`).
    pub listener: String,
    /// The route configuration that answers for the request (`%TULLE_ROUTES%`).
    pub routes: String,
    /// The name of the route, empty for one without (`%ROUTE_NAME%`).
    pub route: String,
    /// The object that makes it so (`%TULLE_ORIGIN%`).
    #[serde(serialize_with = "text")]
    pub origin: Option<Origin>,
    /// What may be injected.
    pub fault: Option<Fault>,
    /// What is sent on, and with how much effort.
    pub sent: Option<Sent>,
}

fn text<S: serde::Serializer>(origin: &Option<Origin>, serializer: S) -> Result<S::Ok, S::Error> {
    origin.as_ref().map(ToString::to_string).serialize(serializer)
}

/// A fault that requests may meet.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Fault {
    /// The part of them that waits, in percent.
    pub delay_percent: f64,
    /// How long, in milliseconds.
    pub delay_ms: u128,
    /// The part of them that is answered, in percent.
    pub abort_percent: f64,
    /// With this status.
    pub status: u16,
}

/// What an upstream receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Path and query.
    pub path: String,
    /// Authority.
    pub authority: String,
    /// From the end of the request to the end of the answer, in milliseconds; `None` never ends.
    pub timeout_ms: Option<u128>,
    /// Of one attempt.
    pub per_try_ms: Option<u128>,
    /// Attempts after the first.
    pub retries: u32,
    /// After what, as `x-envoy-retry-on` names it.
    pub retry_on: String,
    /// Statuses that are tried again.
    pub retry_statuses: Vec<u16>,
}
