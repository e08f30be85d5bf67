//! The one canonical form of an authority, made before any name is looked up.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::grammar::REG_NAME;

/// Longest host name: DNS allows 253 bytes and a trailing dot.
pub const MAX_HOST_BYTES: usize = 254;

/// The URI schemes an HTTP proxy serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// Compared ignoring case (RFC 3986 §3.1); `None` for any other scheme.
    pub fn parse(bytes: &[u8]) -> Option<Scheme> {
        if bytes.eq_ignore_ascii_case(b"http") {
            Some(Scheme::Http)
        } else if bytes.eq_ignore_ascii_case(b"https") {
            Some(Scheme::Https)
        } else {
            None
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that an authority without one means.
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// What is wrong with an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthorityError {
    #[error("the host is empty")]
    Empty,
    #[error("the host is longer than {MAX_HOST_BYTES} bytes")]
    TooLong,
    #[error("the authority holds user information")]
    UserInfo,
    #[error("the host holds a byte that no host name may hold")]
    Host,
    #[error("the host is not a valid IP literal")]
    IpLiteral,
    #[error("the port is not a number from 0 to 65535")]
    Port,
}

/// `host[:port]` in the form in which names are compared: host in lower case, one trailing dot
/// dropped, IPv6 literals without brackets and in their shortest form (RFC 5952).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalAuthority<'a> {
    /// Borrowed from the request unless a byte had to change.
    pub host: Cow<'a, str>,
    /// The host as an address, if it is one.
    pub address: Option<IpAddr>,
    /// As written; `None` also for the empty port of `host:` (RFC 3986 §3.2.3).
    pub port: Option<u16>,
}

impl<'a> CanonicalAuthority<'a> {
    /// Parses and canonicalises an authority (RFC 3986 §3.2 without user information).
    ///
    /// # Errors
    /// Says which part is wrong. Nothing is repaired.
    pub fn parse(authority: &'a [u8]) -> Result<CanonicalAuthority<'a>, AuthorityError> {
        if authority.contains(&b'@') {
            return Err(AuthorityError::UserInfo);
        }
        if let [b'[', rest @ ..] = authority {
            return Self::parse_ip_literal(rest);
        }
        let (host, port) = match authority.iter().position(|&byte| byte == b':') {
            Some(colon) => (&authority[..colon], parse_port(&authority[colon + 1..])?),
            None => (authority, None),
        };
        let (host, address) = canonical_host(host)?;
        Ok(CanonicalAuthority { host, address, port })
    }

    /// The port, or the scheme's default.
    pub fn port_or_default(&self, scheme: Scheme) -> u16 {
        self.port.unwrap_or(scheme.default_port())
    }

    fn parse_ip_literal(rest: &'a [u8]) -> Result<CanonicalAuthority<'a>, AuthorityError> {
        let close = rest.iter().position(|&byte| byte == b']').ok_or(AuthorityError::IpLiteral)?;
        let text = str::from_utf8(&rest[..close]).map_err(|_| AuthorityError::IpLiteral)?;
        let address: Ipv6Addr = text.parse().map_err(|_| AuthorityError::IpLiteral)?;
        let port = match &rest[close + 1..] {
            [] => None,
            [b':', digits @ ..] => parse_port(digits)?,
            _ => return Err(AuthorityError::Port),
        };
        let canonical = address.to_string();
        let host = if canonical == text { Cow::Borrowed(text) } else { Cow::Owned(canonical) };
        Ok(CanonicalAuthority { host, address: Some(IpAddr::V6(address)), port })
    }
}

/// An empty port is the scheme's default; anything else is 1 to 5 digits.
fn parse_port(digits: &[u8]) -> Result<Option<u16>, AuthorityError> {
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(AuthorityError::Port);
    }
    let port = digits.iter().fold(0u32, |sum, &digit| sum * 10 + u32::from(digit - b'0'));
    u16::try_from(port).map(Some).map_err(|_| AuthorityError::Port)
}

fn canonical_host(host: &[u8]) -> Result<(Cow<'_, str>, Option<IpAddr>), AuthorityError> {
    if host.len() > MAX_HOST_BYTES {
        return Err(AuthorityError::TooLong);
    }
    if !REG_NAME.has_all(host) {
        return Err(AuthorityError::Host);
    }
    // `a.` and `a` are one name; `a..` and `.` are none.
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.is_empty() {
        return Err(AuthorityError::Empty);
    }
    if host.ends_with(b".") {
        return Err(AuthorityError::Host);
    }
    // REG_NAME is ASCII, hence valid UTF-8.
    let text = str::from_utf8(host).map_err(|_| AuthorityError::Host)?;
    let address = match host[0].is_ascii_digit() {
        true => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        false => None,
    };
    let host = if host.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    };
    Ok((host, address))
}
