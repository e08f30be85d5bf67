//! Writes what a format asks for: lines of text, lines of JSON, values of headers.
//!
//! Reference: Envoy "Access logging", command operators; types of JSON values as Envoy's.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tulle_model::access_log::{Command, HeaderCommand, LogFormat};
use tulle_model::head::{KnownId, Name};
use tulle_model::header_edit::{Template, TemplatePart};

use super::LogFields;

/// What a line of text has in place of a missing value.
const MISSING: &[u8] = b"-";

/// Appends one line as `format` asks, with the line feed that JSON needs and a text brings along.
pub fn line(format: &LogFormat, fields: &LogFields<'_>, out: &mut Vec<u8>) {
    match format {
        LogFormat::Text(template) => text(template, fields, MISSING, out),
        LogFormat::Json(members) => {
            for (index, (key, template)) in members.iter().enumerate() {
                out.push(if index == 0 { b'{' } else { b',' });
                json_string(key, out);
                out.push(b':');
                json_value(template, fields, out);
            }
            out.extend_from_slice(if members.is_empty() { b"{}\n" } else { b"}\n" });
        }
    }
}

/// Appends the value of a header that a route adds; what is missing is left out. The value may
/// hold bytes that no header may hold: writing it into a head refuses them.
pub fn header_value(template: &Template, fields: &LogFields<'_>, out: &mut Vec<u8>) {
    text(template, fields, b"", out);
}

fn text(template: &Template, fields: &LogFields<'_>, missing: &[u8], out: &mut Vec<u8>) {
    for part in &template.parts {
        match part {
            TemplatePart::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            TemplatePart::Command(command) => match value(command, fields) {
                Value::Missing => out.extend_from_slice(missing),
                found => found.write(out),
            },
        }
    }
}

/// A value of a single command keeps its type; anything else is a string.
fn json_value(template: &Template, fields: &LogFields<'_>, out: &mut Vec<u8>) {
    if let [TemplatePart::Command(command)] = template.parts.as_slice() {
        match value(command, fields) {
            Value::Missing => return out.extend_from_slice(b"null"),
            Value::Number(number) => return Value::Number(number).write(out),
            _ => {}
        }
    }
    let start = out.len();
    text(template, fields, MISSING, out);
    let value = String::from_utf8_lossy(&out[start..]).into_owned();
    out.truncate(start);
    json_string(&value, out);
}

fn json_string(text: &str, out: &mut Vec<u8>) {
    // Fails only when writing does, and a vector takes everything.
    let _ = serde_json::to_writer(out, text);
}

/// What a command comes to.
enum Value<'a> {
    Missing,
    Bytes(&'a [u8]),
    /// Text of which white space is replaced, so that a line can be cut at spaces.
    Word(&'a str),
    Number(u64),
    Time(SystemTime),
    Address(SocketAddr),
    Ip(IpAddr),
    Display(&'a dyn std::fmt::Display),
}

impl Value<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        let _ = match self {
            Self::Missing => Ok(()),
            Self::Bytes(bytes) => out.write_all(bytes),
            Self::Word(text) => {
                let blank = |byte: u8| if byte.is_ascii_whitespace() { b'_' } else { byte };
                out.extend(text.bytes().map(blank));
                Ok(())
            }
            Self::Number(number) => write!(out, "{number}"),
            Self::Time(time) => {
                out.extend_from_slice(&timestamp(*time));
                Ok(())
            }
            Self::Address(address) => write!(out, "{address}"),
            Self::Ip(address) => write!(out, "{address}"),
            Self::Display(value) => write!(out, "{value}"),
        };
    }

    fn or_missing<T>(value: Option<T>, some: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Missing, some)
    }

    fn of_text(text: &str) -> Value<'_> {
        if text.is_empty() { Value::Missing } else { Value::Bytes(text.as_bytes()) }
    }

    fn of_word(text: &str) -> Value<'_> {
        if text.is_empty() { Value::Missing } else { Value::Word(text) }
    }

    fn milliseconds(duration: Option<Duration>) -> Self {
        let number = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::or_missing(duration, |duration| Self::Number(number(duration)))
    }
}

fn value<'a>(command: &Command, fields: &'a LogFields<'_>) -> Value<'a> {
    match command {
        Command::StartTime => Value::Time(fields.start),
        Command::RequestHeader(wanted) => {
            header(wanted, |name| fields.request.and_then(|head| head.value(name)))
        }
        Command::ResponseHeader(wanted) => header(wanted, |name| match name {
            Name::Other(b":status") => None,
            name => fields.response.and_then(|head| head.value(name)),
        }),
        Command::ResponseTrailer(wanted) => {
            header(wanted, |name| fields.trailers.and_then(|trailers| trailers.first(name)))
        }
        Command::Protocol => {
            Value::or_missing(fields.protocol, |version| Value::Bytes(version.as_str().as_bytes()))
        }
        Command::ResponseCode => Value::Number(fields.status.into()),
        Command::ResponseCodeDetails => Value::of_word(fields.details),
        Command::ConnectionTerminationDetails => Value::of_text(fields.termination_details),
        Command::ResponseFlags => Value::Display(&fields.flags),
        Command::BytesReceived => Value::Number(fields.bytes_received),
        Command::BytesSent => Value::Number(fields.bytes_sent),
        Command::Duration => Value::milliseconds(fields.duration),
        Command::RequestDuration => Value::milliseconds(fields.request_duration),
        Command::ResponseDuration => Value::milliseconds(fields.response_duration),
        Command::RouteName => Value::of_text(fields.route_name),
        Command::Listener => Value::of_text(fields.listener),
        Command::Routes => Value::of_text(fields.routes),
        Command::Origin => Value::or_missing(fields.origin, |origin| Value::Display(origin)),
        Command::Hostname => Value::of_text(fields.hostname),
        Command::StreamId => {
            let id = fields.request.and_then(|head| head.headers.first(KnownId::XRequestId));
            Value::or_missing(id, Value::Bytes)
        }
        peer => peer_value(peer, fields),
    }
}

/// The commands about the two connections.
fn peer_value<'a>(command: &Command, fields: &'a LogFields<'_>) -> Value<'a> {
    let (downstream, upstream) = (&fields.downstream, &fields.upstream);
    let address = |address: Option<SocketAddr>| Value::or_missing(address, Value::Address);
    let ip =
        |address: Option<SocketAddr>| Value::or_missing(address, |address| Value::Ip(address.ip()));
    match command {
        Command::UpstreamHost => Value::or_missing(upstream.host, |host| Value::Display(host)),
        Command::UpstreamCluster => Value::of_text(upstream.cluster),
        Command::UpstreamLocalAddress => address(upstream.local),
        Command::UpstreamTransportFailureReason => Value::of_word(upstream.transport_failure),
        Command::UpstreamRequestAttemptCount => Value::Number(upstream.attempts.into()),
        Command::DownstreamLocalAddress => address(downstream.local),
        Command::DownstreamLocalAddressWithoutPort => ip(downstream.local),
        Command::DownstreamLocalPort => {
            Value::or_missing(downstream.local, |local| Value::Number(local.port().into()))
        }
        Command::DownstreamRemoteAddress => address(downstream.remote),
        Command::DownstreamRemoteAddressWithoutPort => ip(downstream.remote),
        Command::DownstreamDirectRemoteAddress => address(downstream.direct_remote),
        Command::DownstreamDirectRemoteAddressWithoutPort => ip(downstream.direct_remote),
        Command::RequestedServerName => Value::of_text(downstream.server_name),
        Command::ConnectionId => match downstream.connection_id {
            0 => Value::Missing,
            id => Value::Number(id),
        },
        _ => Value::Missing,
    }
}

fn header<'a>(wanted: &HeaderCommand, find: impl Fn(Name<'_>) -> Option<&'a [u8]>) -> Value<'a> {
    let otherwise = || wanted.otherwise.as_ref().and_then(|name| find(name.into()));
    let found = find((&wanted.name).into()).or_else(otherwise);
    Value::or_missing(found, |value| {
        let limit = wanted.limit_bytes.unwrap_or(value.len());
        Value::Bytes(&value[..value.len().min(limit)])
    })
}

/// ISO 8601 in UTC with milliseconds, as `%START_TIME%` prints it.
#[must_use]
pub fn timestamp_text(time: SystemTime) -> String {
    timestamp(time).iter().copied().map(char::from).collect()
}

/// ISO 8601 in UTC with milliseconds: `2016-04-15T20:17:00.310Z`.
fn timestamp(time: SystemTime) -> [u8; 24] {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil_date(seconds / 86_400);
    let second = seconds % 86_400;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, digits: usize, mut number: u64| {
        for place in (at..at + digits).rev() {
            // A digit, hence below ten.
            text[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, second / 3600);
    put(14, 2, second / 60 % 60);
    put(17, 2, second % 60);
    put(20, 3, millis.into());
    text
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar. Years begin in March
/// here, so that the leap day is the last of its year.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_BEFORE_1970: u64 = 719_468;
    let day = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (day / DAYS_PER_ERA, day % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day_of_month)
}
