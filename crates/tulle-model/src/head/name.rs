//! Names of header fields: borrowed for a lookup, owned in configuration.

use std::fmt;

use super::grammar;
use super::known::KnownId;

/// A name to look up: a known one (an integer comparison) or bytes (compared ignoring case).
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    Known(KnownId),
    /// A name that is not in [`KnownId`]. Constructed by the `From` impls, which resolve known
    /// names first.
    Other(&'a [u8]),
}

impl<'a> Name<'a> {
    /// The name's bytes; lower case if known.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Name::Known(id) => id.as_str().as_bytes(),
            Name::Other(bytes) => bytes,
        }
    }
}

impl From<KnownId> for Name<'_> {
    fn from(id: KnownId) -> Self {
        Name::Known(id)
    }
}

impl<'a> From<&'a [u8]> for Name<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        KnownId::of(bytes).map_or(Name::Other(bytes), Name::Known)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        name.as_bytes().into()
    }
}

impl<'a> From<&'a HeaderName> for Name<'a> {
    fn from(name: &'a HeaderName) -> Self {
        match name {
            HeaderName::Known(id) => Name::Known(*id),
            HeaderName::Other(bytes) => Name::Other(bytes.as_bytes()),
        }
    }
}

/// A valid field name in lower case, as configuration holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderName {
    Known(KnownId),
    Other(Box<str>),
}

impl HeaderName {
    /// Parses a configured name; upper case is folded.
    ///
    /// Pseudo names (`:path`) are accepted: matchers and hash policies use them. `:authority`
    /// is the `host` field. `None` if it is neither a token nor a known pseudo name.
    pub fn parse(name: &str) -> Option<HeaderName> {
        if let Some(pseudo) = name.strip_prefix(':') {
            return match pseudo {
                "authority" => Some(HeaderName::Known(KnownId::Host)),
                "method" | "path" | "scheme" | "status" | "protocol" => {
                    Some(HeaderName::Other(name.into()))
                }
                _ => None,
            };
        }
        if !grammar::is_token(name.as_bytes()) {
            return None;
        }
        Some(match KnownId::of(name.as_bytes()) {
            Some(id) => HeaderName::Known(id),
            None => HeaderName::Other(name.to_ascii_lowercase().into()),
        })
    }

    /// The lower-case name.
    pub fn as_str(&self) -> &str {
        match self {
            HeaderName::Known(id) => id.as_str(),
            HeaderName::Other(name) => name,
        }
    }

    /// Whether it names a pseudo field: `:method`, `:path`, `:scheme`, `:status`, `:protocol`.
    pub fn is_pseudo(&self) -> bool {
        self.as_str().starts_with(':')
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl From<KnownId> for HeaderName {
    fn from(id: KnownId) -> Self {
        HeaderName::Known(id)
    }
}
