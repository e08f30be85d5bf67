//! `HTTPMatchRequest`: the conditions of an HTTP rule.

use std::collections::BTreeMap;

use tulle_model::head::HeaderName;
use tulle_model::matcher::Pattern;

use super::values::{GatewayName, Labels, labels, pattern};
use crate::diagnostic::Code;
use crate::reader::{Field, Fields};

/// Conditions that all hold for a request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HttpMatch {
    /// Name, for logs.
    pub name: String,
    /// The path.
    pub uri: Option<TextMatch>,
    /// Whether the case of the path does not matter (exact and prefix).
    pub ignore_uri_case: bool,
    /// `http` or `https`.
    pub scheme: Option<TextMatch>,
    /// The method.
    pub method: Option<TextMatch>,
    /// Host and port as the request names them.
    pub authority: Option<TextMatch>,
    /// Headers that are there and match.
    pub headers: BTreeMap<HeaderName, TextMatch>,
    /// Headers that do not match.
    pub without_headers: BTreeMap<HeaderName, TextMatch>,
    /// Query parameters.
    pub query: BTreeMap<String, TextMatch>,
    /// Port the caller addressed.
    pub port: Option<u16>,
    /// Labels of the calling workload.
    pub source_labels: Labels,
    /// Namespace of the calling workload.
    pub source_namespace: Option<String>,
    /// Replaces the gateways of the whole object, if not empty.
    pub gateways: Vec<GatewayName>,
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq)]
pub enum TextMatch {
    /// Equal.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// The whole text matches.
    Regex(Pattern),
    /// There, whatever it says.
    Present,
}

/// Headers whose conditions have fields of their own; Istio ignores them among `headers`.
const PSEUDO: &[&str] = &["uri", "scheme", "method", "authority"];

/// Reads one match block.
pub(super) fn read(item: &Field<'_>) -> Option<HttpMatch> {
    let fields = item.fields("HTTPMatchRequest")?;
    let condition = HttpMatch {
        name: fields.text("name").unwrap_or_default(),
        uri: fields.get("uri").and_then(|field| text(&field, false)),
        ignore_uri_case: fields.flag("ignoreUriCase"),
        scheme: fields.get("scheme").and_then(|field| text(&field, false)),
        method: fields.get("method").and_then(|field| text(&field, false)),
        authority: fields.get("authority").and_then(|field| text(&field, false)),
        headers: headers(&fields, "headers"),
        without_headers: headers(&fields, "withoutHeaders"),
        query: query(&fields),
        port: fields.get("port").and_then(|field| field.port()),
        source_labels: labels(&fields, "sourceLabels"),
        source_namespace: fields.get("sourceNamespace").and_then(|field| field.nonempty()),
        gateways: GatewayName::read(&fields),
    };
    check_uri(&fields, &condition);
    fields.finish(&["statPrefix"]);
    Some(condition)
}

fn check_uri(fields: &Fields<'_>, condition: &HttpMatch) {
    let Some(field) = fields.get("uri") else { return };
    if let Some(TextMatch::Exact(path) | TextMatch::Prefix(path)) = &condition.uri
        && !path.is_empty()
        && !path.starts_with('/')
    {
        let message = format!("no path begins like {path:?}");
        field.problem(Code::InvalidValue, message, format!("write /{path}"));
    }
    if condition.ignore_uri_case && matches!(condition.uri, Some(TextMatch::Regex(_))) {
        let message = "ignoreUriCase does not change a regular expression";
        field.problem(Code::NoEffect, message, "begin the expression with (?i)");
    }
}

fn headers(fields: &Fields<'_>, name: &'static str) -> BTreeMap<HeaderName, TextMatch> {
    let mut headers = BTreeMap::new();
    let Some(field) = fields.get(name) else { return headers };
    for (key, value) in field.entries() {
        if key.starts_with('@') {
            let message = "matching claims of a token is not enforced by this release";
            value.problem(Code::NotEnforcedField, message, "remove it");
            continue;
        }
        let lower = key.to_ascii_lowercase();
        if PSEUDO.contains(&lower.as_str()) {
            let message = format!("{key} is not a header");
            value.problem(Code::InvalidHeader, message, format!("write match.{lower} instead"));
            continue;
        }
        let Some(name) = parse_header_name(&lower) else {
            let message = format!("{key:?} is not a header name");
            value.problem(Code::InvalidHeader, message, "write letters, digits and hyphens");
            continue;
        };
        let Some(condition) = text(&value, true) else { continue };
        if headers.insert(name, condition).is_some() {
            let message = format!("{lower} is listed twice in different case");
            value.problem(Code::DuplicateValue, message, "keep one");
        }
    }
    headers
}

/// The name of a header; a pseudo header has conditions of its own.
pub(super) fn parse_header_name(text: &str) -> Option<HeaderName> {
    HeaderName::parse(text).filter(|_| !text.starts_with(':'))
}

fn query(fields: &Fields<'_>) -> BTreeMap<String, TextMatch> {
    let mut query = BTreeMap::new();
    let Some(field) = fields.get("queryParams") else { return query };
    for (key, value) in field.entries() {
        if let Some(condition) = text(&value, true) {
            query.insert(key.to_owned(), condition);
        }
    }
    query
}

/// Reads a `StringMatch`; with `presence`, one that names no kind asks whether it is there.
fn text(field: &Field<'_>, presence: bool) -> Option<TextMatch> {
    let fields = field.fields("StringMatch")?;
    let exact = fields.text("exact").map(TextMatch::Exact);
    let prefix = fields.text("prefix").map(TextMatch::Prefix);
    let regex = fields.get("regex").and_then(|field| field.parsed(Code::InvalidRegex, pattern));
    let set = ["exact", "prefix", "regex"].iter().filter(|name| fields.get(name).is_some()).count();
    fields.finish(&[]);
    match set {
        0 if presence => Some(TextMatch::Present),
        0 => {
            field.problem(Code::MissingField, "nothing is compared", "set exact, prefix or regex");
            None
        }
        1 => exact.or(prefix).or(regex.map(TextMatch::Regex)),
        _ => {
            field.problem(Code::Conflict, "two comparisons at once", "keep exact, prefix or regex");
            None
        }
    }
}
