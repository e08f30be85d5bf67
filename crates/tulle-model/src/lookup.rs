//! Three-valued lookups: a name may be there, known not to be there, or not asked for yet.
//!
//! On-demand configuration (design D5, D7) needs the difference: *unknown* means subscribe and
//! wait, *absent* means answer now.

use std::sync::Arc;

use crate::name::{ClusterName, EndpointsName, ListenerName, RouteConfigName};

/// The answer of a table that is filled on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// It is there.
    Present(T),
    /// It is known not to be there.
    Absent(Absence),
    /// Nobody has asked the control plane for it.
    Unknown,
}

impl<T> Lookup<T> {
    /// The value, if it is there.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent(_) | Self::Unknown => None,
        }
    }

    /// The same answer about something derived from the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::Present(value) => Lookup::Present(f(value)),
            Self::Absent(absence) => Lookup::Absent(absence),
            Self::Unknown => Lookup::Unknown,
        }
    }
}

/// Why something is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The control plane answered that it does not exist, or is not visible to this workload.
    NotFound,
    /// The static configuration does not have it, and nobody can be asked.
    NotConfigured,
    /// It was sent, but this proxy had to refuse it; the reason.
    Rejected(Arc<str>),
    /// The limit on names was reached before it could be asked for.
    Overflow,
    /// Nobody answered in time.
    TimedOut,
}

impl Absence {
    /// Whether it is certain that there is nothing; else it is only not known what there is.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        match self {
            Self::NotFound | Self::NotConfigured => true,
            Self::Rejected(_) | Self::Overflow | Self::TimedOut => false,
        }
    }

    /// Whether a connection to an address that is known to be nobody's goes on to it, when this is
    /// all that is known of a name which it gives besides. Not where there is something of that
    /// name that could not be used.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotFound | Self::NotConfigured | Self::Overflow | Self::TimedOut => true,
            Self::Rejected(_) => false,
        }
    }
}

impl std::fmt::Display for Absence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found by the control plane"),
            Self::NotConfigured => f.write_str("not in the configuration"),
            Self::Rejected(why) => write!(f, "refused by this proxy: {why}"),
            Self::Overflow => f.write_str("too many new names"),
            Self::TimedOut => f.write_str("the control plane did not answer in time"),
        }
    }
}

/// A name that a decision needs before it can be taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Needed {
    /// A listener, by name or alias.
    Listener(ListenerName),
    /// A route configuration.
    Routes(RouteConfigName),
    /// A cluster.
    Cluster(ClusterName),
    /// The endpoints of a cluster.
    Endpoints(EndpointsName),
}

/// What a decision says when it may lack names (design D7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// Decided.
    Decided(T),
    /// Ask for this name, wait, decide again.
    Need(Needed),
}
