//! Why a request or connection got no upstream, in the words that the peer and the log are told.

use std::io;

use tulle_model::flag::ResponseFlag;

/// A circuit-breaker limit was reached (flag UO).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} reached", .0.name())]
pub struct Overflow(pub LimitKind);

/// The limits of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// `max_connections`.
    Connections,
    /// `max_pending_requests`.
    PendingRequests,
    /// `max_requests`.
    Requests,
    /// `max_retries` or the retry budget.
    Retries,
}

impl LimitKind {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::PendingRequests => "max_pending_requests",
            Self::Requests => "max_requests",
            Self::Retries => "max_retries",
        }
    }
}

/// Why no endpoint could be picked (flag UH).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// The cluster has none.
    #[error("the cluster has no endpoints")]
    Empty,
    /// Its endpoints have not come yet, or its names are not resolved yet.
    #[error("the endpoints of the cluster are not known yet")]
    NotKnown,
    /// None may take requests.
    #[error("no endpoint of the cluster is healthy")]
    Unhealthy,
    /// The cluster goes where the client dialled, but that is not known or is this proxy.
    #[error("the connection has no original destination")]
    NoOriginalDestination,
    /// Too many different destinations were dialled.
    #[error("too many original destinations at once")]
    TooManyDestinations,
}

/// Why there is no connection to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
pub struct ConnectFailure {
    /// Envoy's reset reason, for the body of the answer: `overflow`, `remote connection
    /// failure`, `local connection failure`, `connection timeout`.
    pub reason: &'static str,
    /// What the system or TLS said (`transport failure reason`), possibly empty.
    pub detail: Box<str>,
    /// `UO` or `UF`.
    pub flag: ResponseFlag,
    /// Whether time ran out.
    pub timed_out: bool,
}

impl ConnectFailure {
    /// Time ran out.
    #[must_use]
    pub fn timeout() -> Self {
        Self {
            reason: "connection timeout",
            detail: "".into(),
            flag: ResponseFlag::UpstreamConnectionFailure,
            timed_out: true,
        }
    }

    /// The system refused to connect or TLS failed; `error` says why.
    #[must_use]
    pub fn remote(error: &io::Error) -> Self {
        Self {
            reason: "remote connection failure",
            detail: detail(error).into(),
            flag: ResponseFlag::UpstreamConnectionFailure,
            timed_out: false,
        }
    }

    /// Nothing was sent because this side cannot connect; `why` says so.
    #[must_use]
    pub fn local(why: &str) -> Self {
        Self {
            reason: "local connection failure",
            detail: why.into(),
            flag: ResponseFlag::UpstreamConnectionFailure,
            timed_out: false,
        }
    }

    /// Whether a limit was reached; nothing is wrong with the endpoint then.
    #[must_use]
    pub fn is_overflow(&self) -> bool {
        self.flag == ResponseFlag::UpstreamOverflow
    }
}

impl From<Overflow> for ConnectFailure {
    fn from(_: Overflow) -> Self {
        Self {
            reason: "overflow",
            detail: "".into(),
            flag: ResponseFlag::UpstreamOverflow,
            timed_out: false,
        }
    }
}

/// In Envoy's words where it has some.
fn detail(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "delayed connect error: Connection refused".into(),
        io::ErrorKind::ConnectionReset => "delayed connect error: Connection reset by peer".into(),
        io::ErrorKind::HostUnreachable => "delayed connect error: No route to host".into(),
        io::ErrorKind::NetworkUnreachable => {
            "immediate connect error: Network is unreachable".into()
        }
        io::ErrorKind::InvalidData => format!("TLS_error: {error}"),
        _ => error.to_string(),
    }
}
