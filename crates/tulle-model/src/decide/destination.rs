//! Which listener answers for a destination (design D6): the dialled address decides, and only
//! where nobody owns it does a name.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::listener::Listener;
use crate::lookup::{Absence, Decision, Lookup, Needed};
use crate::snapshot::Snapshot;
use crate::trace::{Step, Trace};

/// Who answers for a destination.
#[derive(Clone, Debug)]
pub enum Destination<'a> {
    /// This listener.
    Owned(&'a Arc<Listener>),
    /// Nobody.
    Unowned(Absence),
}

/// Who owns the dialled `address`.
pub fn by_address<'a>(
    snapshot: &'a Snapshot,
    address: SocketAddr,
    trace: &mut impl Trace,
) -> Decision<Destination<'a>> {
    by_name(snapshot, &address.to_string(), trace)
}

/// Who owns `name`, which is `<ip>:<port>` or `<canonical host>:<port>`.
pub fn by_name<'a>(
    snapshot: &'a Snapshot,
    name: &str,
    trace: &mut impl Trace,
) -> Decision<Destination<'a>> {
    match snapshot.listener(name) {
        Lookup::Present(listener) => {
            trace.step(|| {
                Step::new("destination", format!("{name} is owned by listener {}", listener.name))
                    .by(listener.origin.as_ref())
            });
            Decision::Decided(Destination::Owned(listener))
        }
        Lookup::Absent(absence) => {
            trace.step(|| Step::new("destination", format!("{name}: {absence}")));
            Decision::Decided(Destination::Unowned(absence))
        }
        Lookup::Unknown => Decision::Need(Needed::Listener(name.into())),
    }
}
