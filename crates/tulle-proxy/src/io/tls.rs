//! Plain connections become encrypted ones.

use std::io;
use std::sync::Arc;

use rustls::{CommonState, ProtocolVersion};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, TlsStream};
use tulle_identity::{Application, ClientTls, ServerTls};

use super::{Io, Stream};

/// What the handshake found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The server name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// The application protocol that was agreed on; empty for none.
    pub alpn: Box<[u8]>,
    /// Version of the protocol.
    pub version: TlsVersion,
    /// Whether the other side showed a certificate.
    pub peer_certificate: bool,
}

/// Versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl TlsVersion {
    /// As `%DOWNSTREAM_TLS_VERSION%` prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }
}

impl TlsFacts {
    fn of(session: &CommonState, sni: Option<&str>) -> Self {
        Self {
            sni: sni.map(Arc::from),
            alpn: session.alpn_protocol().unwrap_or_default().into(),
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::V1_2,
                _ => TlsVersion::V1_3,
            },
            peer_certificate: session.peer_certificates().is_some(),
        }
    }
}

impl Io {
    /// The encrypted connection that a client opens inside this one. The caller limits the time.
    ///
    /// # Errors
    /// What the system says, or why the handshake failed.
    pub async fn accept_tls(self, tls: &ServerTls) -> io::Result<Self> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), self).await?;
        let config = tls.config(&start.client_hello());
        let stream = start.into_stream(config).await?;
        let session = stream.get_ref().1;
        let facts = TlsFacts::of(session, session.server_name());
        Ok(Self::encrypted(TlsStream::Server(stream), facts))
    }

    /// The encrypted connection opened to a server inside this one, to carry `application`. The
    /// caller limits the time.
    ///
    /// # Errors
    /// What the system says, or why the handshake failed.
    pub async fn connect_tls(self, tls: &ClientTls, application: Application) -> io::Result<Self> {
        let config = tls.config(application);
        let sni = match (config.enable_sni, tls.server_name()) {
            (true, rustls::pki_types::ServerName::DnsName(name)) => Some(name),
            _ => None,
        };
        let stream = TlsConnector::from(config).connect(tls.server_name(), self).await?;
        let facts = TlsFacts::of(stream.get_ref().1, sni.as_ref().map(AsRef::as_ref));
        Ok(Self::encrypted(TlsStream::Client(stream), facts))
    }

    fn encrypted(stream: TlsStream<Self>, facts: TlsFacts) -> Self {
        let peer = stream.get_ref().0.peer();
        let mut io = Self::new(Stream::Tls(Box::new(stream)), peer);
        io.tls = Some(Box::new(facts));
        io
    }
}
