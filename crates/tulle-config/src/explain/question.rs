//! A question as people and programs put it, made into a call.

use std::net::SocketAddr;

use thiserror::Error;
use tulle_model::head::{AuthorityError, CanonicalAuthority, HeaderName, RequestHead, Scheme};

use super::call::{Call, Dialled, Speaks};
use crate::client::Client;

/// Most headers of a question.
const MAX_HEADERS: usize = 100;

/// What is asked, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// `http://HOST[:PORT][/PATH]`, `https://HOST[:PORT]` or `tcp://HOST:PORT`.
    pub to: String,
    /// Method; empty for GET.
    pub method: String,
    /// Headers; `host` replaces the authority of the URL.
    pub headers: Vec<(String, String)>,
    /// Whether the caller begins with HTTP/2.
    pub http2: bool,
}

/// Why a question has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// Not a URL of ours.
    #[error(
        "{0:?} is not a destination; write http://HOST[:PORT]/PATH, https://HOST or tcp://HOST:PORT"
    )]
    Url(String),
    /// Its authority is wrong.
    #[error("{0:?} is no host and port: {1}")]
    Authority(String, AuthorityError),
    /// Nobody knows the port.
    #[error("{0:?} needs a port; write tcp://HOST:PORT")]
    Port(String),
    /// Its path is wrong.
    #[error("{0:?} is no path; escape what a URL may not hold")]
    Path(String),
    /// No method.
    #[error("{0:?} is no method")]
    Method(String),
    /// No header.
    #[error("{0:?} is no header")]
    Header(String),
    /// Too many headers.
    #[error("more than {MAX_HEADERS} headers")]
    TooManyHeaders,
}

impl Question {
    /// The call of `from` that is asked about.
    ///
    /// # Errors
    /// The question has no meaning.
    pub fn call(&self, from: Client) -> Result<Call, QuestionError> {
        let wrong = || QuestionError::Url(self.to.clone());
        let (scheme, rest) = self.to.split_once("://").ok_or_else(wrong)?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let path = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path);
        let speaks = match scheme {
            "http" if self.http2 => Speaks::Http2,
            "http" => Speaks::Http1,
            "https" => Speaks::Tls,
            "tcp" => Speaks::Bytes,
            _ => return Err(wrong()),
        };
        let to = dialled(authority, speaks)?;
        Ok(Call { from, to, speaks, request: self.request(authority, path)?, random: 0 })
    }

    fn request(&self, authority: &str, path: &str) -> Result<RequestHead, QuestionError> {
        let mut head = RequestHead::new();
        // A request line of HTTP/1 need not name it; then `x-forwarded-proto` says.
        head.scheme = self.http2.then_some(Scheme::Http);
        let method = if self.method.is_empty() { "GET" } else { &self.method };
        let wrong = |_| QuestionError::Method(method.to_owned());
        head.set_method(method.as_bytes()).map_err(wrong)?;
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        head.set_path(path.as_bytes()).map_err(|_| QuestionError::Path(path.clone()))?;
        let wrong = |_| QuestionError::Header(authority.to_owned());
        head.set_authority(authority.as_bytes()).map_err(wrong)?;
        if self.headers.len() > MAX_HEADERS {
            return Err(QuestionError::TooManyHeaders);
        }
        for (name, value) in &self.headers {
            let wrong = || QuestionError::Header(format!("{name}: {value}"));
            let done = match name.eq_ignore_ascii_case("host") {
                true => head.set_authority(value.as_bytes()),
                false => {
                    let name = HeaderName::parse(name).ok_or_else(wrong)?;
                    head.headers.append(&name, value.as_bytes())
                }
            };
            done.map_err(|_| wrong())?;
        }
        Ok(head)
    }
}

fn dialled(authority: &str, speaks: Speaks) -> Result<Dialled, QuestionError> {
    let canonical = CanonicalAuthority::parse(authority.as_bytes())
        .map_err(|error| QuestionError::Authority(authority.to_owned(), error))?;
    let port = match (canonical.port, speaks) {
        (Some(port), _) => port,
        (None, Speaks::Http1 | Speaks::Http2) => Scheme::Http.default_port(),
        (None, Speaks::Tls) => Scheme::Https.default_port(),
        (None, Speaks::Bytes) => return Err(QuestionError::Port(authority.to_owned())),
    };
    Ok(match canonical.address {
        Some(ip) => Dialled::Address(SocketAddr::new(ip, port)),
        None => Dialled::Host((*canonical.host).into(), port),
    })
}
