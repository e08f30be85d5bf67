//! Values that several objects share: host names and patterns, visibility, protocols, labels,
//! regular expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tulle_model::matcher::{Pattern, Substitution};

use crate::diagnostic::Code;
use crate::reader::{Field, Fields, Wrong};

/// Longest host name, in bytes (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

/// Labels of a workload, or those a selector asks for.
pub type Labels = BTreeMap<String, String>;

/// A host name or address in canonical spelling: lower case, no final dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Reads a host name or an IP address.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if let Ok(ip) = name.parse::<std::net::IpAddr>() {
            return Ok(HostName(ip.to_string()));
        }
        if name.is_empty() || name.len() > MAX_HOST_BYTES || !name.split('.').all(is_label) {
            return Err(Wrong::new(
                format!("{text:?} is not a host name"),
                "write letters, digits and hyphens, in parts separated by dots",
            ));
        }
        Ok(HostName(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no dot, so that the namespace of the object completes it.
    pub fn is_short(&self) -> bool {
        !self.0.contains('.') && !self.is_address()
    }

    /// Whether it is an IP address.
    pub fn is_address(&self) -> bool {
        self.0.parse::<std::net::IpAddr>().is_ok()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !label.is_empty()
        && label.len() <= 63
        && label.chars().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A host, a family of hosts, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// One name.
    Exact(HostName),
    /// Every name ending in this text, `*` cut off: `.example.com`.
    Suffix(String),
    /// Every name.
    Any,
}

impl HostPattern {
    /// Reads `name`, `*.suffix`, `*-suffix` or `*`.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "*" {
            return Ok(HostPattern::Any);
        }
        let Some(suffix) = text.strip_prefix('*') else {
            return HostName::parse(text).map(HostPattern::Exact);
        };
        let rest = suffix.strip_prefix(['.', '-']).filter(|rest| !rest.contains('*'));
        let name = rest.and_then(|rest| HostName::parse(rest).ok()).filter(|n| !n.is_address());
        match name {
            Some(name) => Ok(HostPattern::Suffix(format!("{}{name}", &suffix[..1]))),
            None => Err(Wrong::new(
                format!("{text:?} is not a host name with a wildcard"),
                "write *.example.com; the wildcard is the first part of the name",
            )),
        }
    }

    /// Whether a name is in the family.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            HostPattern::Exact(exact) => exact.as_str() == name,
            HostPattern::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
            HostPattern::Any => true,
        }
    }

    /// Whether every name of `other` is in this family too.
    pub fn contains(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (_, HostPattern::Any) => false,
            (HostPattern::Suffix(suffix), HostPattern::Suffix(inner)) => inner.ends_with(suffix),
            (HostPattern::Exact(_), HostPattern::Suffix(_)) => false,
            (_, HostPattern::Exact(name)) => self.matches(name.as_str()),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => write!(f, "{name}"),
            HostPattern::Suffix(suffix) => write!(f, "*{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

/// To which namespaces an object is exported (`exportTo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visibility {
    /// `*`, or nothing said.
    All,
    /// `.` (`own`) and named namespaces; `~` is neither.
    Only {
        /// The object's own namespace.
        own: bool,
        /// Others by name.
        namespaces: BTreeSet<String>,
    },
}

impl Visibility {
    /// Whether an object of namespace `home` can be seen from `from`.
    pub fn shows(&self, home: &str, from: &str) -> bool {
        match self {
            Visibility::All => true,
            Visibility::Only { own, namespaces } => {
                (*own && home == from) || namespaces.contains(from)
            }
        }
    }

    /// The namespaces that see an object of namespace `home`; `None` for all there are.
    pub fn namespaces(&self, home: &str) -> Option<BTreeSet<String>> {
        let Visibility::Only { own, namespaces } = self else { return None };
        Some(namespaces.iter().cloned().chain(own.then(|| home.to_owned())).collect())
    }

    /// What both show, of objects of one namespace.
    pub fn and(&self, other: &Self, home: &str) -> Self {
        let namespaces = match (self.namespaces(home), other.namespaces(home)) {
            (None, _) => return other.clone(),
            (_, None) => return self.clone(),
            (Some(one), Some(other)) => one.intersection(&other).cloned().collect(),
        };
        Visibility::Only { own: false, namespaces }
    }

    /// Reads `exportTo`.
    pub(super) fn read(fields: &Fields<'_>) -> Self {
        let texts = fields.texts("exportTo");
        let (mut own, mut all, mut namespaces) = (false, false, BTreeSet::new());
        let alone = |field: &Field<'_>, text: &str| {
            if texts.len() > 1 {
                let message = format!("{text:?} stands beside other namespaces");
                field.problem(Code::Conflict, message, format!("write {text:?} alone"));
            }
        };
        for (field, text) in &texts {
            match text.as_str() {
                "." => own = true,
                "*" => {
                    alone(field, text);
                    all = true;
                }
                "~" => alone(field, text),
                name if is_label(name) && !name.contains('_') => {
                    namespaces.insert(name.to_owned());
                }
                name => {
                    let message = format!("{name:?} is not a namespace");
                    let help = "write \".\", \"*\" or the name of a namespace";
                    field.problem(Code::InvalidValue, message, help);
                }
            }
        }
        if all || texts.is_empty() {
            return Visibility::All;
        }
        Visibility::Only { own, namespaces }
    }
}

/// What travels over a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1, upgrades included.
    Http,
    /// HTTP/2 without TLS.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// Opaque bytes.
    Tcp,
    /// TLS from end to end, opaque but for its SNI.
    Tls,
    /// Nothing declared: the bytes decide.
    Auto,
}

impl Protocol {
    /// Whether requests are routed one by one.
    pub fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Http2 | Protocol::Grpc)
    }

    /// Whether connections are passed on as they are.
    pub fn is_opaque(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::Tls)
    }

    /// Reads a declared protocol, as Istio spells them, in any case.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Ok(Protocol::Http),
            "http2" => Ok(Protocol::Http2),
            "grpc" | "grpc-web" => Ok(Protocol::Grpc),
            "tcp" | "mongo" | "redis" | "mysql" => Ok(Protocol::Tcp),
            "tls" | "https" => Ok(Protocol::Tls),
            _ => Err(Wrong::new(
                format!("{text:?} is not a protocol this release carries"),
                "write HTTP, HTTP2, GRPC, TCP, TLS or HTTPS",
            )),
        }
    }

    /// The protocol a port's name declares (`http`, `grpc-api`), if it begins with one.
    pub fn from_port_name(name: &str) -> Self {
        if name == "grpc-web" || name.starts_with("grpc-web-") {
            return Protocol::Grpc;
        }
        let prefix = name.split('-').next().unwrap_or(name);
        Protocol::parse(prefix).unwrap_or(Protocol::Auto)
    }
}

/// Compiles a regular expression that must match the whole text (RE2 syntax).
pub(super) fn pattern(text: &str) -> Result<Pattern, Wrong> {
    Pattern::new(text).map_err(|error| wrong_regex(&error))
}

/// Compiles a regular expression and what its matches are replaced by.
pub(super) fn substitution(text: &str, replacement: &str) -> Result<Substitution, Wrong> {
    Substitution::new(text, replacement).map_err(|error| wrong_regex(&error))
}

fn wrong_regex(error: &str) -> Wrong {
    let last = error.lines().last().unwrap_or_default();
    let reason = last.strip_prefix("error: ").unwrap_or(last);
    Wrong::new(
        format!("the regular expression cannot be used: {reason}"),
        "write RE2 syntax (no look-around, no back-references), not too large",
    )
}

/// A Gateway that rules bind to, or the mesh's sidecars.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayName {
    /// `mesh`: every sidecar.
    Mesh,
    /// A Gateway; without a namespace the one of the object that names it.
    Named {
        /// Namespace, if written.
        namespace: Option<String>,
        /// Name.
        name: String,
    },
}

impl GatewayName {
    /// Reads `mesh`, `name` or `namespace/name`.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "mesh" {
            return Ok(GatewayName::Mesh);
        }
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        let dns = |part: &str| part.split('.').all(is_label);
        if !dns(name) || !namespace.is_none_or(|part| dns(part) || part == ".") {
            return Err(Wrong::new(
                format!("{text:?} does not name a Gateway"),
                "write mesh, NAME or NAMESPACE/NAME",
            ));
        }
        let namespace = namespace.filter(|part| *part != ".").map(str::to_owned);
        Ok(GatewayName::Named { namespace, name: name.to_owned() })
    }

    /// Reads a list of them.
    pub(super) fn read(fields: &Fields<'_>) -> Vec<Self> {
        let items = fields.items("gateways");
        items.iter().filter_map(|item| item.parsed(Code::InvalidValue, Self::parse)).collect()
    }
}

/// Reads a list of host patterns; equal ones are refused.
pub(super) fn hosts(fields: &Fields<'_>, name: &'static str) -> Vec<HostPattern> {
    let (mut hosts, mut known) = (Vec::new(), BTreeSet::new());
    for item in fields.items(name) {
        let Some(host) = item.parsed(Code::InvalidHost, HostPattern::parse) else { continue };
        if !known.insert(host.clone()) {
            item.problem(Code::DuplicateValue, format!("{host} is listed twice"), "remove one");
            continue;
        }
        hosts.push(host);
    }
    if fields.get(name).is_none_or(|field| field.is_empty_list()) {
        fields.missing(name);
    }
    hosts
}

/// Reads labels (or a selector) and checks them against Kubernetes' syntax.
pub(super) fn labels(fields: &Fields<'_>, name: &'static str) -> Labels {
    let Some(field) = fields.get(name) else { return Labels::new() };
    let mut labels = Labels::new();
    for (key, value) in field.entries() {
        let Some(text) = value.text() else { continue };
        if let Some(wrong) = label_problem(key, &text) {
            value.problem(Code::InvalidValue, wrong.message, wrong.help);
            continue;
        }
        labels.insert(key.to_owned(), text);
    }
    labels
}

fn label_problem(key: &str, value: &str) -> Option<Wrong> {
    let edge = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| edge(c) || matches!(c, '-' | '_' | '.');
    let part = |text: &str| {
        text.len() <= 63
            && text.starts_with(edge)
            && text.ends_with(edge)
            && text.chars().all(inner)
    };
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    if !part(name) || key.len() > MAX_HOST_BYTES {
        return Some(Wrong::new(
            format!("{key:?} is not the name of a label"),
            "write letters, digits, '-', '_', '.', beginning and ending with a letter or digit",
        ));
    }
    if !value.is_empty() && !part(value) {
        return Some(Wrong::new(
            format!("{value:?} is not the value of a label"),
            "write at most 63 letters, digits, '-', '_', '.'",
        ));
    }
    None
}

#[cfg(test)]
mod tests;
