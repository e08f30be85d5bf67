//! TLS settings of listeners and clusters, as configured; keys stay where they are named.

use std::sync::Arc;

use crate::matcher::StringMatch;

/// Bytes that stand in the configuration or in a file.
#[derive(Clone, PartialEq, Eq)]
pub enum DataSource {
    /// A file's path.
    File(Arc<str>),
    /// In place.
    Inline(Arc<[u8]>),
}

impl std::fmt::Debug for DataSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
        }
    }
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Leaf first.
    pub chain: DataSource,
    /// PKCS #8, SEC 1 or PKCS #1.
    pub key: DataSource,
}

/// What a listener's filter chain does for TLS (`DownstreamTlsContext`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamTls {
    /// Own certificates; the one that fits the SNI is taken, else the first.
    pub certificates: Vec<Certificate>,
    /// ALPN protocols, preferred first.
    pub alpn: Vec<Arc<str>>,
    /// Roots that client certificates are checked against.
    pub client_roots: Option<DataSource>,
    /// Whether a client certificate must come.
    pub require_client_certificate: bool,
}

/// What a cluster does for TLS (`UpstreamTlsContext`).
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// Server name to send; `None` sends none.
    pub sni: Option<Arc<str>>,
    /// ALPN protocols; empty takes those of the cluster's protocol.
    pub alpn: Vec<Arc<str>>,
    /// Own certificate.
    pub certificate: Option<Certificate>,
    /// Roots that the server is checked against; `None` checks nothing, as Envoy does.
    pub roots: Option<DataSource>,
    /// Subject alternative names, one of which must match; empty accepts any.
    pub subject_alt_names: Vec<StringMatch>,
}
