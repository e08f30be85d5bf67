//! What an HTTP rule does besides choosing a destination: redirects, answers, rewrites, header
//! edits, faults and retries.

use std::time::Duration;

use super::values::{HostName, Regex};
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

/// An answer given by the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// Changes of path and host before the request is passed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Replaces what was matched as prefix, or the whole path.
    pub uri: Option<String>,
    /// Replaces every match of an expression in the path.
    pub regex: Option<RegexRewrite>,
    /// Replaces the host.
    pub authority: Option<String>,
}

/// A substitution in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexRewrite {
    /// What is replaced.
    pub pattern: Regex,
    /// By what; `\1` is the first group.
    pub substitution: String,
}

/// Header edits. Names are lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Set on requests, replacing what is there.
    pub request_set: Vec<(String, String)>,
    /// Added to requests.
    pub request_add: Vec<(String, String)>,
    /// Taken from requests.
    pub request_remove: Vec<String>,
    /// Set on responses.
    pub response_set: Vec<(String, String)>,
    /// Added to responses.
    pub response_add: Vec<(String, String)>,
    /// Taken from responses.
    pub response_remove: Vec<String>,
    /// Host set by an edit of `Host` or `:authority`.
    pub authority: Option<String>,
}

/// Failures made on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Waits for this share of the requests.
    pub delay: Option<(Share, Duration)>,
    /// Refuses this share of the requests.
    pub abort: Option<(Share, Abort)>,
}

/// A share of requests, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

/// How a request is refused on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// With an HTTP status.
    Http(u16),
    /// With a gRPC status.
    Grpc(u32),
}

/// What is tried again, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first; 0 is none.
    pub attempts: u32,
    /// Longest time of one attempt.
    pub per_try: Option<Duration>,
    /// After what; `None` is not said.
    pub on: Option<Vec<RetryOn>>,
    /// First pause between attempts.
    pub backoff: Option<Duration>,
    /// Whether endpoints already tried are left out; `None` is not said.
    pub another_host: Option<bool>,
}

/// A reason to try again, as Envoy names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryOn {
    /// `5xx`
    ServerError,
    /// `gateway-error`
    GatewayError,
    /// `reset`
    Reset,
    /// `reset-before-request`
    ResetBeforeRequest,
    /// `connect-failure`
    ConnectFailure,
    /// `retriable-4xx`
    Retriable4xx,
    /// `refused-stream`
    RefusedStream,
    /// `retriable-status-codes`: those listed as numbers.
    RetriableStatusCodes,
    /// A status code.
    Status(u16),
    /// gRPC `cancelled`
    Cancelled,
    /// gRPC `deadline-exceeded`
    DeadlineExceeded,
    /// gRPC `internal`
    Internal,
    /// gRPC `resource-exhausted`
    ResourceExhausted,
    /// gRPC `unavailable`
    Unavailable,
}

const RETRY_ON: &[(&str, RetryOn)] = &[
    ("5xx", RetryOn::ServerError),
    ("gateway-error", RetryOn::GatewayError),
    ("reset", RetryOn::Reset),
    ("reset-before-request", RetryOn::ResetBeforeRequest),
    ("connect-failure", RetryOn::ConnectFailure),
    ("retriable-4xx", RetryOn::Retriable4xx),
    ("refused-stream", RetryOn::RefusedStream),
    ("retriable-status-codes", RetryOn::RetriableStatusCodes),
    ("cancelled", RetryOn::Cancelled),
    ("deadline-exceeded", RetryOn::DeadlineExceeded),
    ("internal", RetryOn::Internal),
    ("resource-exhausted", RetryOn::ResourceExhausted),
    ("unavailable", RetryOn::Unavailable),
];

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
    Some(DirectResponse { status: u16::try_from(status?).ok()?, body })
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

fn regex_rewrite(field: &Field<'_>) -> Option<RegexRewrite> {
    let fields = field.fields("RegexRewrite")?;
    let pattern =
        fields.required("match").and_then(|field| field.parsed(Code::InvalidRegex, Regex::parse));
    let substitution = fields.required("rewrite").and_then(|field| field.text());
    fields.finish(&[]);
    Some(RegexRewrite { pattern: pattern?, substitution: substitution? })
}

/// Reads `Headers`; only a whole rule (`on_rule`) may replace the host.
pub(super) fn edits(field: &Field<'_>, on_rule: bool) -> Option<HeaderEdits> {
    let fields = field.fields("Headers")?;
    let mut edits = HeaderEdits::default();
    if let Some(request) = fields.get("request").and_then(|f| f.fields("HeaderOperations")) {
        edits.request_set = header_values(&request, "set", true);
        edits.request_add = header_values(&request, "add", false);
        edits.request_remove = header_names(&request);
        request.finish(&[]);
        edits.authority = take_authority(&mut edits.request_set, &fields, on_rule);
    }
    if let Some(response) = fields.get("response").and_then(|f| f.fields("HeaderOperations")) {
        edits.response_set = header_values(&response, "set", false);
        edits.response_add = header_values(&response, "add", false);
        edits.response_remove = header_names(&response);
        response.finish(&[]);
    }
    fields.finish(&[]);
    Some(edits)
}

fn take_authority(
    set: &mut Vec<(String, String)>,
    fields: &Fields<'_>,
    on_rule: bool,
) -> Option<String> {
    let index = set.iter().position(|(name, _)| is_authority(name))?;
    let (name, value) = set.remove(index);
    if !on_rule {
        let message = format!("replacing {name} for one destination is not enforced");
        let help = "set it on the rule, or use rewrite.authority";
        fields.whole().problem(Code::NotEnforcedValue, message, help);
    }
    Some(value)
}

fn is_authority(name: &str) -> bool {
    matches!(name, "host" | ":authority")
}

fn header_values(fields: &Fields<'_>, name: &'static str, host: bool) -> Vec<(String, String)> {
    let Some(field) = fields.get(name) else { return Vec::new() };
    let mut headers: Vec<(String, String)> = Vec::new();
    for (key, value) in field.entries() {
        let lower = key.to_ascii_lowercase();
        if !(host && is_authority(&lower)) && !check_header_name(&value, &lower) {
            continue;
        }
        let Some(text) = value.text() else { continue };
        if text.bytes().any(|byte| byte != b'\t' && (byte < 0x20 || byte == 0x7f)) {
            let message = "the value has a control character";
            value.problem(Code::InvalidHeader, message, "write it on one line");
            continue;
        }
        if headers.iter().any(|(other, _)| *other == lower) {
            let message = format!("{lower} is listed twice in different case");
            value.problem(Code::DuplicateValue, message, "keep one");
            continue;
        }
        headers.push((lower, text));
    }
    headers
}

fn header_names(fields: &Fields<'_>) -> Vec<String> {
    let items = fields.items("remove");
    items.iter().filter_map(|item| header_name(item, true)).collect()
}

/// Reads a header name, lower-cased; with `edit`, one that may be changed.
pub(super) fn header_name(field: &Field<'_>, edit: bool) -> Option<String> {
    let lower = field.nonempty()?.to_ascii_lowercase();
    if edit {
        return check_header_name(field, &lower).then_some(lower);
    }
    if !super::http_match::is_header_name(&lower) {
        let message = format!("{lower:?} is not a header name");
        field.problem(Code::InvalidHeader, message, "write letters, digits and hyphens");
        return None;
    }
    Some(lower)
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

fn check_header_name(field: &Field<'_>, lower: &str) -> bool {
    let wrong = if lower == "host" || lower.starts_with(':') {
        Some("the host is not edited as a header here")
    } else if FRAMING.contains(&lower) {
        Some("the header frames the message and belongs to the proxy")
    } else if !super::http_match::is_header_name(lower) {
        Some("not a header name")
    } else {
        None
    };
    if let Some(message) = wrong {
        field.problem(Code::InvalidHeader, format!("{lower}: {message}"), "remove it");
    }
    wrong.is_none()
}

/// Reads an `HTTPFaultInjection`.
pub(super) fn fault(field: &Field<'_>) -> Option<Fault> {
    let fields = field.fields("HTTPFaultInjection")?;
    let delay = fields.get("delay");
    let abort = fields.get("abort");
    if delay.is_none() && abort.is_none() {
        field.problem(Code::MissingField, "the fault does nothing", "set delay or abort");
    }
    let fault = Fault {
        delay: delay.and_then(|field| fault_delay(&field)),
        abort: abort.and_then(|field| fault_abort(&field)),
    };
    fields.finish(&[]);
    Some(fault)
}

fn fault_delay(field: &Field<'_>) -> Option<(Share, Duration)> {
    let fields = field.fields("Delay")?;
    let old = fields.get("percent").and_then(|field| field.number(0..=100));
    let share = share(&fields).or(old.map(|percent| Share(percent * 10_000)));
    let fixed = fields.get("fixedDelay");
    if fixed.is_none() && fields.get("exponentialDelay").is_none() {
        fields.missing("fixedDelay");
    }
    let wait = fixed.and_then(|field| field.duration(Duration::from_millis(1)));
    fields.finish(&["exponentialDelay"]);
    Some((share.unwrap_or(Share(1_000_000)), wait?))
}

fn fault_abort(field: &Field<'_>) -> Option<(Share, Abort)> {
    let fields = field.fields("Abort")?;
    let share = share(&fields).unwrap_or(Share(1_000_000));
    let http = fields.get("httpStatus");
    let grpc = fields.get("grpcStatus");
    match (&http, &grpc) {
        (None, None) => fields.missing("httpStatus"),
        (Some(_), Some(field)) => {
            let message = "httpStatus and grpcStatus are both set";
            field.problem(Code::Conflict, message, "keep one of them");
        }
        _ => {}
    }
    let http = http.and_then(|field| field.number(200..=599));
    let http = http.and_then(|status| u16::try_from(status).ok()).map(Abort::Http);
    let grpc = grpc.and_then(|field| field.parsed(Code::UnknownValue, grpc_status));
    fields.finish(&["http2Error"]);
    Some((share, http.or(grpc.map(Abort::Grpc))?))
}

fn grpc_status(text: &str) -> Result<u32, Wrong> {
    let index = GRPC_STATUS.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = text.parse::<usize>().ok().filter(|number| *number < GRPC_STATUS.len());
    let code = index.or(number).and_then(|code| u32::try_from(code).ok());
    code.ok_or_else(|| {
        Wrong::new(format!("{text:?} is not a gRPC status"), "write its name, as UNAVAILABLE")
    })
}

fn share(fields: &Fields<'_>) -> Option<Share> {
    let percent = fields.get("percentage")?.fields("Percent")?;
    let share = percent.get("value").and_then(|field| field.percentage());
    percent.finish(&[]);
    Some(Share(share.unwrap_or(0)))
}

/// Reads an `HTTPRetry`.
pub(super) fn retries(field: &Field<'_>) -> Option<Retries> {
    let fields = field.fields("HTTPRetry")?;
    let attempts = fields.required("attempts").and_then(|field| field.number(0..=MAX_RETRIES));
    let retries = Retries {
        attempts: attempts.unwrap_or(0),
        per_try: fields.duration("perTryTimeout"),
        on: fields.get("retryOn").and_then(|field| retry_on(&field)),
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

fn retry_on(field: &Field<'_>) -> Option<Vec<RetryOn>> {
    let mut reasons = Vec::new();
    for part in field.text()?.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let named = RETRY_ON.iter().find(|(name, _)| *name == part).map(|(_, reason)| *reason);
        let status = part.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        match named.or(status.map(RetryOn::Status)) {
            Some(reason) => reasons.push(reason),
            None => refuse_reason(field, part),
        }
    }
    Some(reasons)
}

fn refuse_reason(field: &Field<'_>, part: &str) {
    let elsewhere = ["retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"];
    if elsewhere.contains(&part) {
        let message = format!("{part} is not enforced by this release");
        field.problem(Code::NotEnforcedValue, message, "remove it");
        return;
    }
    let names: Vec<&str> = RETRY_ON.iter().map(|(name, _)| *name).collect();
    let message = format!("{part:?} is not a reason to retry");
    let help = format!("write status codes or {}", names.join(", "));
    field.problem(Code::UnknownValue, message, help);
}
