//! Who we are and whom we believe: the only builder of rustls configurations.
//!
//! Reading order: [`pem`] (bytes from files or in place) → [`names`] (what a certificate is for)
//! → [`server`] and [`client`] (one side of TLS each) → [`configs`] (all of them for a snapshot).
//! Building reads files and parses keys, so it happens off the workers; what is built is shared.

pub mod client;
pub mod configs;
pub mod names;
pub mod pem;
pub mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use client::{Application, ClientTls};
pub use configs::TlsConfigs;
pub use server::ServerTls;

/// Why a TLS configuration could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{path}: cannot be read; check that it exists and that the proxy may read it")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not PEM of the right kind.
    #[error("{place}: no {wanted} in PEM form found")]
    Pem {
        /// The file, or `inline`.
        place: String,
        /// What was looked for.
        wanted: &'static str,
    },
    /// The key does not fit the certificate, or its kind is not supported.
    #[error("{place}: the private key cannot be used with the certificate")]
    Key {
        /// The file of the chain, or `inline`.
        place: String,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// The roots cannot be used.
    #[error("{place}: a root certificate cannot be used")]
    Roots {
        /// The file, or `inline`.
        place: String,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// No certificate for a server.
    #[error("a TLS listener needs at least one certificate")]
    NoCertificate,
    /// Client certificates are required, but nothing says which.
    #[error("client certificates are required, but there are no roots to check them against")]
    NoClientRoots,
    /// The client verifier could not be built.
    #[error("client certificates cannot be checked")]
    ClientVerifier(#[source] rustls::server::VerifierBuilderError),
    /// The server name is not one.
    #[error("{0:?} is not a server name that can be sent (SNI)")]
    ServerName(String),
    /// The cryptography does not support what TLS needs.
    #[error("TLS versions cannot be set up")]
    Versions(#[source] rustls::Error),
}

/// The one cryptography of the mesh: aws-lc-rs.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
