//! Where load goes: `http://host:port/path`, or `tcp://host:port`.

use std::str::FromStr;

use http::Uri;

/// A parsed target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port as a request names them.
    pub authority: String,
    /// Path and query.
    pub path: String,
    port: u16,
    host: String,
}

impl Target {
    /// The address to resolve when no other is given.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text}: {what}, write http://host:port/path");
        let uri: Uri = text.parse().map_err(|_| wrong("no URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        let port = match (uri.scheme_str(), authority.port_u16()) {
            (Some("http" | "tcp"), Some(port)) => port,
            (Some("http"), None) => 80,
            (Some("tcp"), None) => return Err(wrong("tcp needs a port")),
            _ => return Err(wrong("only http and tcp are spoken")),
        };
        Ok(Self {
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            port,
            host: authority.host().to_owned(),
        })
    }
}
