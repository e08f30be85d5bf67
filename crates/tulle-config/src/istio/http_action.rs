//! What an HTTP rule does besides choosing a destination: redirects, answers, rewrites, header
//! edits, faults and retries.

use std::time::Duration;

use tulle_model::head::HeaderName;
use tulle_model::header_edit::{AppendAction, HeaderAdd, HeaderEdits, Template};
use tulle_model::http::{FaultAbort, FaultDelay, FaultSettings};
use tulle_model::matcher::{Fraction, Substitution};
use tulle_model::retry::RetryOn;
use tulle_model::route::DirectResponse;

use super::values::{HostName, substitution};
use crate::diagnostic::Code;
use crate::reader::{Field, Fields, Wrong};

/// Largest body of a direct response, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Most retries of one request, in attempts after the first.
const MAX_RETRIES: u32 = 100;

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// New path, query included.
    pub uri: Option<String>,
    /// New host.
    pub authority: Option<String>,
    /// New scheme.
    pub scheme: Option<String>,
    /// New port.
    pub port: RedirectPort,
    /// Status code.
    pub code: u16,
}

/// The port a redirect names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectPort {
    /// Not said: that of the request's authority, unless the authority is replaced.
    Unsaid,
    /// This one.
    Number(u16),
    /// None: the scheme's default.
    FromProtocol,
    /// The port the request came in on.
    FromRequest,
}

/// Changes of path and host before the request is passed on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rewrite {
    /// Replaces what was matched as prefix, or the whole path.
    pub uri: Option<String>,
    /// Replaces every match of an expression in the path.
    pub regex: Option<Substitution>,
    /// Replaces the host.
    pub authority: Option<String>,
}

/// Edits of the headers of requests and responses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeaderRules {
    /// For requests.
    pub request: HeaderEdits,
    /// For responses.
    pub response: HeaderEdits,
    /// Host set by an edit of `Host` or `:authority`.
    pub authority: Option<String>,
}

/// What is tried again, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first; 0 is none.
    pub attempts: u32,
    /// Longest time of one attempt.
    pub per_try: Option<Duration>,
    /// After what; `None` is not said.
    pub on: Option<RetryOn>,
    /// Status codes that are tried again.
    pub statuses: Vec<u16>,
    /// First pause between attempts.
    pub backoff: Option<Duration>,
    /// Whether endpoints already tried are left out; `None` is not said.
    pub another_host: Option<bool>,
}

/// Reasons to try again that exist in Envoy and are not enforced here.
const RETRY_ON_ELSEWHERE: &[&str] =
    &["retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"];

const GRPC_STATUS: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Reads an `HTTPRedirect`.
pub(super) fn redirect(field: &Field<'_>) -> Option<Redirect> {
    let fields = field.fields("HTTPRedirect")?;
    let derived = [
        ("FROM_PROTOCOL_DEFAULT", Some(RedirectPort::FromProtocol)),
        ("FROM_REQUEST_PORT", Some(RedirectPort::FromRequest)),
    ];
    let number = fields.get("port").and_then(|field| field.port()).map(RedirectPort::Number);
    let derive = fields.get("derivePort").and_then(|field| field.choice(&derived));
    if number.is_some() && derive.is_some() {
        field.problem(Code::Conflict, "port and derivePort are both set", "keep one of them");
    }
    let redirect = Redirect {
        uri: fields.get("uri").and_then(|field| path(&field)),
        authority: fields.get("authority").and_then(|field| authority(&field)),
        scheme: fields.get("scheme").and_then(|field| scheme(&field)),
        port: number.or(derive).unwrap_or(RedirectPort::Unsaid),
        code: fields.get("redirectCode").and_then(|field| redirect_code(&field)).unwrap_or(301),
    };
    fields.finish(&[]);
    if redirect.uri.is_none()
        && redirect.authority.is_none()
        && redirect.scheme.is_none()
        && redirect.port == RedirectPort::Unsaid
    {
        let message = "the redirect points back to where the request came from";
        field.problem(Code::MissingField, message, "set uri, authority, scheme or port");
    }
    Some(redirect)
}

fn redirect_code(field: &Field<'_>) -> Option<u16> {
    let code = field.number(0..=599)?;
    match code {
        0 => None,
        301 | 302 | 303 | 307 | 308 => u16::try_from(code).ok(),
        _ => {
            let message = format!("{code} is not a redirect");
            field.problem(Code::InvalidValue, message, "write 301, 302, 303, 307 or 308");
            None
        }
    }
}

fn scheme(field: &Field<'_>) -> Option<String> {
    let scheme = field.text()?;
    if !matches!(scheme.as_str(), "http" | "https") {
        let message = format!("{scheme:?} is not a scheme");
        field.problem(Code::UnknownValue, message, "write http or https");
        return None;
    }
    Some(scheme)
}

fn path(field: &Field<'_>) -> Option<String> {
    field.parsed(Code::InvalidValue, |text| {
        let visible = text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        if !visible || text.is_empty() {
            return Err(Wrong::new(
                format!("{text:?} is not a path"),
                "write visible ASCII, percent-encode the rest",
            ));
        }
        Ok(text.to_owned())
    })
}

fn authority(field: &Field<'_>) -> Option<String> {
    field.parsed(Code::InvalidHost, |text| {
        let host = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => text,
        };
        HostName::parse(host.trim_start_matches('[').trim_end_matches(']'))?;
        Ok(text.to_owned())
    })
}

/// Reads an `HTTPDirectResponse`.
pub(super) fn direct_response(field: &Field<'_>) -> Option<DirectResponse> {
    let fields = field.fields("HTTPDirectResponse")?;
    let status = fields.required("status").and_then(|field| field.number(200..=599));
    let body = fields.get("body").and_then(|field| body(&field)).unwrap_or_default();
    fields.finish(&[]);
    Some(DirectResponse { status: u16::try_from(status?).ok()?, body: body.into() })
}

fn body(field: &Field<'_>) -> Option<Vec<u8>> {
    let fields = field.fields("HTTPBody")?;
    let text = fields.text("string").map(String::into_bytes);
    fields.finish(&["bytes"]);
    let body = text?;
    if body.len() > MAX_BODY_BYTES {
        let message = format!("the body has {} bytes", body.len());
        field.problem(Code::InvalidValue, message, format!("write at most {MAX_BODY_BYTES}"));
        return None;
    }
    Some(body)
}

/// Reads an `HTTPRewrite`.
pub(super) fn rewrite(field: &Field<'_>) -> Option<Rewrite> {
    let fields = field.fields("HTTPRewrite")?;
    let rewrite = Rewrite {
        uri: fields.get("uri").and_then(|field| path(&field)),
        regex: fields.get("uriRegexRewrite").and_then(|field| regex_rewrite(&field)),
        authority: fields.get("authority").and_then(|field| authority(&field)),
    };
    if let (Some(_), Some(field)) = (fields.get("uri"), fields.get("uriRegexRewrite")) {
        let message = "uri and uriRegexRewrite are both set";
        field.problem(Code::Conflict, message, "keep one of them");
    }
    if ["uri", "uriRegexRewrite", "authority"].iter().all(|name| fields.get(name).is_none()) {
        let message = "the rewrite changes nothing";
        field.problem(Code::MissingField, message, "set uri, uriRegexRewrite or authority");
    }
    fields.finish(&[]);
    Some(rewrite)
}

fn regex_rewrite(field: &Field<'_>) -> Option<Substitution> {
    let fields = field.fields("RegexRewrite")?;
    let replacement = fields.required("rewrite").and_then(|field| field.text());
    let pattern = fields.required("match");
    fields.finish(&[]);
    let (pattern, replacement) = (pattern?, replacement?);
    pattern.parsed(Code::InvalidRegex, |text| substitution(text, &replacement))
}

/// Reads `Headers`; only a whole rule (`on_rule`) may replace the host.
pub(super) fn edits(field: &Field<'_>, on_rule: bool) -> Option<HeaderRules> {
    let fields = field.fields("Headers")?;
    let mut rules = HeaderRules::default();
    if let Some(request) = fields.get("request").and_then(|f| f.fields("HeaderOperations")) {
        rules.authority = authority_edit(&request, on_rule);
        rules.request = operations(request, true);
    }
    if let Some(response) = fields.get("response").and_then(|f| f.fields("HeaderOperations")) {
        rules.response = operations(response, false);
    }
    fields.finish(&[]);
    Some(rules)
}

fn operations(fields: Fields<'_>, of_request: bool) -> HeaderEdits {
    let mut add = header_values(&fields, "set", AppendAction::OverwriteIfExistsOrAdd, of_request);
    add.extend(header_values(&fields, "add", AppendAction::AppendIfExistsOrAdd, false));
    let items = fields.items("remove");
    let remove = items.iter().filter_map(|item| edited_name(item, &item.nonempty()?)).collect();
    fields.finish(&[]);
    HeaderEdits { add, remove }
}

/// The host that `set` writes as a header.
fn authority_edit(fields: &Fields<'_>, on_rule: bool) -> Option<String> {
    let entries = fields.get("set")?.entries();
    let (_, value) = entries.into_iter().find(|(name, _)| is_authority(name))?;
    if !on_rule {
        let message = "replacing the host for one destination is not enforced by this release";
        let help = "set it on the rule, or use rewrite.authority";
        value.problem(Code::NotEnforcedValue, message, help);
        return None;
    }
    authority(&value)
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}

fn header_values(
    fields: &Fields<'_>,
    name: &'static str,
    action: AppendAction,
    skip_authority: bool,
) -> Vec<HeaderAdd> {
    let Some(field) = fields.get(name) else { return Vec::new() };
    let mut headers: Vec<HeaderAdd> = Vec::new();
    for (key, value) in field.entries() {
        if skip_authority && is_authority(key) {
            continue;
        }
        let Some(name) = edited_name(&value, key) else { continue };
        let Some(template) = value.parsed(Code::InvalidHeader, template) else { continue };
        if headers.iter().any(|other| other.name == name) {
            let message = format!("{name} is listed twice in different case");
            value.problem(Code::DuplicateValue, message, "keep one");
            continue;
        }
        headers.push(HeaderAdd { name, value: template, action, keep_empty: false });
    }
    headers
}

/// A header value with its `%OPERATOR%`s.
fn template(text: &str) -> Result<Template, Wrong> {
    if text.bytes().any(|byte| byte != b'\t' && (byte < 0x20 || byte == 0x7f)) {
        return Err(Wrong::new("the value has a control character", "write it on one line"));
    }
    Template::parse(text).map_err(|error| Wrong::new(error, "write %% for a percent sign"))
}

/// Reads a header name for looking it up.
pub(super) fn header_name(field: &Field<'_>) -> Option<HeaderName> {
    let text = field.nonempty()?;
    let name = super::http_match::parse_header_name(&text);
    if name.is_none() {
        let message = format!("{text:?} is not a header name");
        field.problem(Code::InvalidHeader, message, "write letters, digits and hyphens");
    }
    name
}

/// Headers that say how a message is framed; an edit could only break it.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
];

/// A header name that may be edited.
fn edited_name(field: &Field<'_>, text: &str) -> Option<HeaderName> {
    let lower = text.to_ascii_lowercase();
    let name = super::http_match::parse_header_name(&lower);
    let wrong = if lower == "host" || lower.starts_with(':') {
        "the host is not edited as a header here"
    } else if FRAMING.contains(&lower.as_str()) {
        "the header frames the message and belongs to the proxy"
    } else if name.is_none() {
        "not a header name"
    } else {
        return name;
    };
    field.problem(Code::InvalidHeader, format!("{lower}: {wrong}"), "remove it");
    None
}

/// Reads an `HTTPFaultInjection`.
pub(super) fn fault(field: &Field<'_>) -> Option<FaultSettings> {
    let fields = field.fields("HTTPFaultInjection")?;
    let delay = fields.get("delay");
    let abort = fields.get("abort");
    if delay.is_none() && abort.is_none() {
        field.problem(Code::MissingField, "the fault does nothing", "set delay or abort");
    }
    let settings = FaultSettings {
        delay: delay
            .and_then(|field| fault_delay(&field))
            .map(|(pause, share)| (FaultDelay::Fixed(pause), share)),
        abort: abort.and_then(|field| fault_abort(&field)),
        ..FaultSettings::default()
    };
    fields.finish(&[]);
    Some(settings)
}

fn fault_delay(field: &Field<'_>) -> Option<(Duration, Fraction)> {
    let fields = field.fields("Delay")?;
    let whole = |field: Field<'_>| {
        let numerator = field.number(0..=100)?;
        Some(Fraction { numerator, denominator: 100 })
    };
    let share = match (fields.get("percentage"), fields.get("percent")) {
        (None, Some(field)) => whole(field),
        (Some(_), Some(field)) => {
            let message = "percentage and percent are both set";
            field.problem(Code::Conflict, message, "keep percentage");
            None
        }
        (_, None) => share(&fields),
    };
    let fixed = fields.get("fixedDelay");
    if fixed.is_none() && fields.quiet("exponentialDelay").is_none() {
        fields.missing("fixedDelay");
    }
    let wait = fixed.and_then(|field| field.duration(Duration::from_millis(1)));
    fields.finish(&["exponentialDelay"]);
    Some((wait?, share?))
}

fn fault_abort(field: &Field<'_>) -> Option<(FaultAbort, Fraction)> {
    let fields = field.fields("Abort")?;
    let share = share(&fields);
    let http = fields.get("httpStatus");
    let grpc = fields.get("grpcStatus");
    match (&http, &grpc) {
        (None, None) if fields.quiet("http2Error").is_none() => fields.missing("httpStatus"),
        (Some(_), Some(field)) => {
            let message = "httpStatus and grpcStatus are both set";
            field.problem(Code::Conflict, message, "keep one of them");
        }
        _ => {}
    }
    let http = http.and_then(|field| field.number(200..=599));
    let http = http.and_then(|status| u16::try_from(status).ok()).map(FaultAbort::Http);
    let grpc = grpc.and_then(|field| field.parsed(Code::UnknownValue, grpc_status));
    fields.finish(&["http2Error"]);
    Some((http.or(grpc.map(FaultAbort::Grpc))?, share?))
}

fn grpc_status(text: &str) -> Result<u32, Wrong> {
    let index = GRPC_STATUS.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = text.parse::<usize>().ok().filter(|number| *number < GRPC_STATUS.len());
    let code = index.or(number).and_then(|code| u32::try_from(code).ok());
    code.ok_or_else(|| {
        Wrong::new(format!("{text:?} is not a gRPC status"), "write its name, as UNAVAILABLE")
    })
}

/// The share of requests that is hit. It has to be said: without it Istio hits none, and whoever
/// leaves it out means all.
fn share(fields: &Fields<'_>) -> Option<Fraction> {
    let percent = fields.required("percentage")?.fields("Percent")?;
    let numerator = percent.required("value").and_then(|field| field.percentage());
    percent.finish(&[]);
    Some(Fraction { numerator: numerator?, denominator: 1_000_000 })
}

/// Reads an `HTTPRetry`.
pub(super) fn retries(field: &Field<'_>) -> Option<Retries> {
    let fields = field.fields("HTTPRetry")?;
    let attempts = fields.required("attempts").and_then(|field| field.number(0..=MAX_RETRIES));
    let (on, statuses) = fields
        .get("retryOn")
        .and_then(|field| retry_on(&field))
        .map_or((None, Vec::new()), |on| (Some(on.0), on.1));
    let retries = Retries {
        attempts: attempts.unwrap_or(0),
        per_try: fields.duration("perTryTimeout"),
        on,
        statuses,
        backoff: fields.duration("backoff"),
        another_host: fields.get("retryIgnorePreviousHosts").and_then(|field| field.boolean()),
    };
    if attempts == Some(0) {
        for name in ["perTryTimeout", "retryOn", "backoff"] {
            if let Some(field) = fields.get(name) {
                let message = format!("{name} is set, but attempts is 0");
                field.problem(Code::Conflict, message, "set attempts, or remove it");
            }
        }
    }
    fields.finish(&["retryRemoteLocalities"]);
    Some(retries)
}

fn retry_on(field: &Field<'_>) -> Option<(RetryOn, Vec<u16>)> {
    let (mut on, mut statuses) = (RetryOn::NONE, Vec::new());
    for part in field.text()?.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let status = part.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        let elsewhere = RETRY_ON_ELSEWHERE.contains(&part) || part.starts_with("tulle-");
        match (status, RetryOn::parse(part)) {
            (Some(status), _) => {
                statuses.push(status);
                on = on.union(RetryOn::RETRIABLE_STATUS_CODES);
            }
            (None, Ok(reason)) if !elsewhere => on = on.union(reason),
            (None, _) => refuse_reason(field, part),
        }
    }
    Some((on, statuses))
}

fn refuse_reason(field: &Field<'_>, part: &str) {
    if RETRY_ON_ELSEWHERE.contains(&part) {
        let message = format!("{part} is not enforced by this release");
        field.problem(Code::NotEnforcedValue, message, "remove it");
        return;
    }
    let names = RetryOn::NAMES.iter().map(|(name, _)| *name);
    let names = names.filter(|name| !RETRY_ON_ELSEWHERE.contains(name));
    let names: Vec<&str> = names.filter(|name| !name.starts_with("tulle-")).collect();
    let message = format!("{part:?} is not a reason to retry");
    let help = format!("write status codes or {}", names.join(", "));
    field.problem(Code::UnknownValue, message, help);
}
