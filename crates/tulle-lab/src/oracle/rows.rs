//! The rows, by group. Each names one behaviour no other row has.

use super::{Group, Row};

mod balancing;
mod callers;
mod http1;
mod http1_errors;
mod http2;
mod records;
mod resilience;
mod routing;
mod tcp;

/// The rows of one group in the order in which they are played.
#[must_use]
pub fn of(group: Group) -> Vec<Row> {
    match group {
        Group::Routing => routing::rows().into_iter().chain(callers::rows()).collect(),
        Group::Http1 => http1::rows().into_iter().chain(http1_errors::rows()).collect(),
        Group::Resilience => resilience::rows().into_iter().chain(balancing::rows()).collect(),
        Group::Http2 => http2::rows(),
        Group::Tcp => tcp::rows(),
        Group::Records => records::rows(),
    }
}

/// Every row of every group.
#[must_use]
pub fn all() -> Vec<Row> {
    Group::ALL.into_iter().flat_map(of).collect()
}
