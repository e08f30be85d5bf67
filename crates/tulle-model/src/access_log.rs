//! What is written about a request when it ends: format strings and where they go.
//!
//! Reference: Envoy "Access logging", command operators.

use std::sync::Arc;

use crate::head::HeaderName;
use crate::header_edit::{Template, TemplatePart};

/// One access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: LogSink,
    /// What a line says.
    pub format: LogFormat,
}

/// Where an access log goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(Arc<str>),
}

/// How a line is made.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFormat {
    /// One text; a missing value is `-`.
    Text(Template),
    /// One JSON object a line, keys in order; a value of a single command keeps its type.
    Json(Vec<(Arc<str>, Template)>),
}

/// Envoy's default text format.
pub const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% \
%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A value of the request, by its operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `%START_TIME%` in ISO 8601 with milliseconds.
    StartTime,
    /// `%REQ(first?second):limit%`; a pseudo header by its colon name.
    RequestHeader(HeaderCommand),
    /// `%RESP(first?second):limit%`.
    ResponseHeader(HeaderCommand),
    /// `%TRAILER(name):limit%`.
    ResponseTrailer(HeaderCommand),
    /// `%PROTOCOL%`.
    Protocol,
    /// `%RESPONSE_CODE%`.
    ResponseCode,
    /// `%RESPONSE_CODE_DETAILS%`.
    ResponseCodeDetails,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    ConnectionTerminationDetails,
    /// `%RESPONSE_FLAGS%`.
    ResponseFlags,
    /// `%BYTES_RECEIVED%`.
    BytesReceived,
    /// `%BYTES_SENT%`.
    BytesSent,
    /// `%DURATION%` in milliseconds.
    Duration,
    /// `%REQUEST_DURATION%` in milliseconds.
    RequestDuration,
    /// `%RESPONSE_DURATION%` in milliseconds.
    ResponseDuration,
    /// `%UPSTREAM_HOST%`.
    UpstreamHost,
    /// `%UPSTREAM_CLUSTER%`.
    UpstreamCluster,
    /// `%UPSTREAM_LOCAL_ADDRESS%`.
    UpstreamLocalAddress,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    UpstreamTransportFailureReason,
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`.
    UpstreamRequestAttemptCount,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`.
    DownstreamLocalAddress,
    /// `%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%`.
    DownstreamLocalAddressWithoutPort,
    /// `%DOWNSTREAM_LOCAL_PORT%`.
    DownstreamLocalPort,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`.
    DownstreamRemoteAddress,
    /// `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`.
    DownstreamRemoteAddressWithoutPort,
    /// `%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%`.
    DownstreamDirectRemoteAddress,
    /// `%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%`.
    DownstreamDirectRemoteAddressWithoutPort,
    /// `%REQUESTED_SERVER_NAME%`.
    RequestedServerName,
    /// `%ROUTE_NAME%`.
    RouteName,
    /// `%HOSTNAME%`.
    Hostname,
    /// `%CONNECTION_ID%`.
    ConnectionId,
    /// `%STREAM_ID%`: the request id.
    StreamId,
    /// `%TULLE_LISTENER%`: the listener that took the connection.
    Listener,
    /// `%TULLE_ROUTES%`: the route configuration that answered for the request, which bears the
    /// name of its destination.
    Routes,
    /// `%TULLE_ORIGIN%`: the object that made it so, as `Kind namespace/name field`.
    Origin,
}

/// Which header a [`Command`] prints.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderCommand {
    /// Looked up first.
    pub name: HeaderName,
    /// Looked up when the first is missing.
    pub otherwise: Option<HeaderName>,
    /// At most so many bytes are printed.
    pub limit_bytes: Option<usize>,
}

const PLAIN: &[(&str, Command)] = &[
    ("START_TIME", Command::StartTime),
    ("PROTOCOL", Command::Protocol),
    ("RESPONSE_CODE", Command::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Command::ResponseCodeDetails),
    ("CONNECTION_TERMINATION_DETAILS", Command::ConnectionTerminationDetails),
    ("RESPONSE_FLAGS", Command::ResponseFlags),
    ("BYTES_RECEIVED", Command::BytesReceived),
    ("BYTES_SENT", Command::BytesSent),
    ("DURATION", Command::Duration),
    ("REQUEST_DURATION", Command::RequestDuration),
    ("RESPONSE_DURATION", Command::ResponseDuration),
    ("UPSTREAM_HOST", Command::UpstreamHost),
    ("UPSTREAM_CLUSTER", Command::UpstreamCluster),
    ("UPSTREAM_LOCAL_ADDRESS", Command::UpstreamLocalAddress),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Command::UpstreamTransportFailureReason),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Command::UpstreamRequestAttemptCount),
    ("DOWNSTREAM_LOCAL_ADDRESS", Command::DownstreamLocalAddress),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Command::DownstreamLocalAddressWithoutPort),
    ("DOWNSTREAM_LOCAL_PORT", Command::DownstreamLocalPort),
    ("DOWNSTREAM_REMOTE_ADDRESS", Command::DownstreamRemoteAddress),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Command::DownstreamRemoteAddressWithoutPort),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Command::DownstreamDirectRemoteAddress),
    (
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
        Command::DownstreamDirectRemoteAddressWithoutPort,
    ),
    ("REQUESTED_SERVER_NAME", Command::RequestedServerName),
    ("ROUTE_NAME", Command::RouteName),
    ("HOSTNAME", Command::Hostname),
    ("CONNECTION_ID", Command::ConnectionId),
    ("STREAM_ID", Command::StreamId),
    ("TULLE_LISTENER", Command::Listener),
    ("TULLE_ROUTES", Command::Routes),
    ("TULLE_ORIGIN", Command::Origin),
];

impl Template {
    /// Reads a format string; `%%` is a percent sign.
    ///
    /// # Errors
    /// What is wrong: an unknown operator or a percent sign that is not closed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            let inside = &rest[at + 1..];
            let end = inside.find('%').ok_or_else(|| format!("`%` is not closed in {text:?}"))?;
            if end == 0 {
                literal.push('%');
            } else {
                if !literal.is_empty() {
                    let text = std::mem::take(&mut literal);
                    parts.push(TemplatePart::Literal(text.into()));
                }
                parts.push(TemplatePart::Command(Command::parse(&inside[..end])?));
            }
            rest = &inside[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(TemplatePart::Literal(literal.into()));
        }
        Ok(Self { parts })
    }

    /// The format string again; [`Template::parse`] reads it back to the same value.
    #[must_use]
    pub fn to_format(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                TemplatePart::Literal(literal) => text.push_str(&literal.replace('%', "%%")),
                TemplatePart::Command(command) => {
                    text.push('%');
                    text.push_str(&command.operator());
                    text.push('%');
                }
            }
        }
        text
    }
}

impl Command {
    fn parse(operator: &str) -> Result<Self, String> {
        if let Some((_, command)) = PLAIN.iter().find(|(name, _)| *name == operator) {
            return Ok(command.clone());
        }
        let unknown = || format!("%{operator}% is not a command operator this release knows");
        let (name, rest) = operator.split_once('(').ok_or_else(unknown)?;
        let make = match name {
            "REQ" => Self::RequestHeader,
            "RESP" => Self::ResponseHeader,
            "TRAILER" => Self::ResponseTrailer,
            _ => return Err(unknown()),
        };
        let (inside, limit) = rest.rsplit_once(')').ok_or_else(unknown)?;
        let limit_bytes = match limit.strip_prefix(':') {
            Some(number) => Some(number.parse().map_err(|_| unknown())?),
            None if limit.is_empty() => None,
            None => return Err(unknown()),
        };
        let (first, second) = match inside.split_once('?') {
            Some((first, second)) => (first, Some(second)),
            None => (inside, None),
        };
        let name = |text: &str| HeaderName::parse(&text.to_ascii_lowercase()).ok_or_else(unknown);
        let otherwise = second.map(name).transpose()?;
        Ok(make(HeaderCommand { name: name(first)?, otherwise, limit_bytes }))
    }

    /// The operator without its percent signs.
    fn operator(&self) -> String {
        let (name, header) = match self {
            Self::RequestHeader(header) => ("REQ", header),
            Self::ResponseHeader(header) => ("RESP", header),
            Self::ResponseTrailer(header) => ("TRAILER", header),
            plain => {
                let named = PLAIN.iter().find(|(_, command)| command == plain);
                return named.map_or_else(String::new, |(name, _)| (*name).to_owned());
            }
        };
        let otherwise = header.otherwise.as_ref().map_or(String::new(), |name| format!("?{name}"));
        let limit = header.limit_bytes.map_or(String::new(), |limit| format!(":{limit}"));
        format!("{name}({}{otherwise}){limit}", header.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_back() {
        for format in [DEFAULT_FORMAT, "", "100%% %REQ(A?B):12%x", "%STREAM_ID%"] {
            let template = Template::parse(format).expect("a good format");
            assert_eq!(Template::parse(&template.to_format()), Ok(template));
        }
    }

    #[test]
    fn bad_formats_name_the_operator() {
        let error = Template::parse("a %NOPE% b").expect_err("unknown");
        assert!(error.contains("%NOPE%"), "{error}");
        assert!(Template::parse("50%").is_err());
        assert!(Template::parse("%REQ(a%").is_err());
    }
}
