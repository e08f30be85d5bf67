//! Scalars of the protobuf JSON mapping, read as the field they stand in wants them.
//!
//! A plain YAML scalar is a number, a boolean or a string depending on its text, as Envoy reads
//! it; a quoted one is a string. The JSON mapping takes numbers in strings, so these are accepted
//! where a number is wanted, but a number is never taken for a string.

use bytes::Bytes;
use prost_reflect::{EnumDescriptor, Kind, Value};
use prost_types::{Duration, Timestamp};

/// Longest duration either way, seconds: 10,000 years (`google/protobuf/duration.proto`).
const MAX_DURATION_S: i64 = 315_576_000_000;

/// What a plain scalar means by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Integer(i128),
    /// A number.
    Number(f64),
    /// Anything else.
    Text,
}

/// Reads a plain scalar. The words for booleans are those of YAML 1.1, as in Envoy.
#[must_use]
pub fn plain(text: &str) -> Plain {
    if let Some(value) = boolean(text) {
        return Plain::Bool(value);
    }
    if let Some(value) = integer(text) {
        return Plain::Integer(value);
    }
    number(text).map_or(Plain::Text, Plain::Number)
}

fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let capital = text.chars().next()?.is_ascii_uppercase();
    let rest = text.get(1..)?;
    let even = rest.chars().all(|letter| letter.is_ascii_lowercase())
        || (capital && rest.chars().all(|letter| letter.is_ascii_uppercase()));
    match &*lower {
        "true" | "yes" | "on" | "y" if even => Some(true),
        "false" | "no" | "off" | "n" if even => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) if hex.len() <= 16 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            i128::from_str_radix(hex, 16).ok()?
        }
        Some(_) => return None,
        None if digits.bytes().all(|digit| digit.is_ascii_digit()) && digits.len() <= 20 => {
            digits.parse().ok()?
        }
        None => return None,
    };
    Some(if negative { -value } else { value })
}

fn number(text: &str) -> Option<f64> {
    let first = text.trim_start_matches(['-', '+']).bytes().next()?;
    let numeric =
        text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'));
    if numeric && (first.is_ascii_digit() || first == b'.') { text.parse().ok() } else { None }
}

/// Reads `text` as a value of `kind`, which is not a message.
///
/// # Errors
/// What was expected.
pub fn read(text: &str, is_plain: bool, kind: &Kind) -> Result<Value, String> {
    match kind {
        Kind::Double => float(text).map(Value::F64),
        // The nearest single is what the JSON mapping means.
        #[allow(clippy::cast_possible_truncation, reason = "the field is that narrow")]
        Kind::Float => float(text).map(|value| Value::F32(value as f32)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(text).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(text).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => whole(text).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => whole(text).map(Value::U64),
        Kind::Bool => match plain(text) {
            Plain::Bool(value) if is_plain => Ok(Value::Bool(value)),
            _ => Err("expected true or false".to_owned()),
        },
        Kind::String => match plain(text) {
            Plain::Integer(_) | Plain::Number(_) if is_plain => {
                Err(format!("expected a string; write \"{text}\" in quotes"))
            }
            Plain::Bool(_) if is_plain && matches!(text.len(), 4..=5) => {
                Err(format!("expected a string; write \"{text}\" in quotes"))
            }
            // Also `no` and the like, which Envoy would take for booleans.
            _ => Ok(Value::String(text.to_owned())),
        },
        Kind::Bytes => base64(text).map(Value::Bytes),
        Kind::Enum(values) => enumeration(text, values).map(Value::EnumNumber),
        Kind::Message(message) => Err(format!("expected a mapping ({})", message.full_name())),
    }
}

/// A string, for the well-known types that are written as one.
///
/// # Errors
/// That it is not.
pub fn string(text: &str, is_plain: bool) -> Result<String, String> {
    match read(text, is_plain, &Kind::String)? {
        Value::String(text) => Ok(text),
        _ => Err("expected a string".to_owned()),
    }
}

fn whole<T: TryFrom<i128>>(text: &str) -> Result<T, String> {
    let value = match plain(text) {
        Plain::Integer(value) => value,
        // 1e3 and 2.0 are integers in JSON. Beyond 2^53 a float is not exact, so it is refused.
        #[allow(clippy::cast_possible_truncation, reason = "integral and within 2^53")]
        Plain::Number(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
            value as i128
        }
        _ => return Err("expected an integer".to_owned()),
    };
    T::try_from(value).map_err(|_| {
        let bits = 8 * size_of::<T>();
        format!("{text} does not fit in {bits} bits of this field")
    })
}

fn float(text: &str) -> Result<f64, String> {
    match (text, plain(text)) {
        ("NaN", _) => Ok(f64::NAN),
        ("Infinity", _) => Ok(f64::INFINITY),
        ("-Infinity", _) => Ok(f64::NEG_INFINITY),
        // Decimal text of an integer is read as the nearest double, as any JSON reader does.
        #[allow(clippy::cast_precision_loss, reason = "as JSON readers do")]
        (_, Plain::Integer(value)) => Ok(value as f64),
        (_, Plain::Number(value)) if value.is_finite() => Ok(value),
        _ => Err("expected a number".to_owned()),
    }
}

fn enumeration(text: &str, values: &EnumDescriptor) -> Result<i32, String> {
    if let Some(value) = values.get_value_by_name(text) {
        return Ok(value.number());
    }
    let number = whole::<i32>(text).ok().filter(|number| values.get_value(*number).is_some());
    number.ok_or_else(|| {
        let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
        format!("`{text}` is not one of {}", names.join(", "))
    })
}

/// Standard or URL-safe, with or without padding, as the JSON mapping asks.
fn base64(text: &str) -> Result<Bytes, String> {
    let bad = || "expected base64".to_owned();
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return Err(bad());
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err(bad()),
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            // The byte above the bits that are still held.
            bytes.push(((bits >> held) & 0xff) as u8);
        }
    }
    Ok(bytes.into())
}

/// Reads `1.5s`.
///
/// # Errors
/// That it is none, or too long.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration; write seconds such as 5s or 0.25s");
    let body = text.strip_suffix('s').ok_or_else(bad)?;
    let (negative, body) = match body.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, body),
    };
    let (whole, fraction) = body.split_once('.').unwrap_or((body, "0"));
    let digits = |part: &str, most: usize| {
        !part.is_empty() && part.len() <= most && part.bytes().all(|digit| digit.is_ascii_digit())
    };
    if !digits(whole, 18) || !digits(fraction, 9) {
        return Err(bad());
    }
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    let nanos: i32 = format!("{fraction:0<9}").parse().map_err(|_| bad())?;
    if seconds > MAX_DURATION_S {
        return Err(format!("`{text}` is longer than {MAX_DURATION_S}s"));
    }
    let sign = if negative { -1 } else { 1 };
    Ok(Duration { seconds: seconds * i64::from(sign), nanos: nanos * sign })
}

/// Reads an RFC 3339 time.
///
/// # Errors
/// That it is none.
pub fn timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("`{text}` is not a time; write 2026-01-31T12:00:00Z"))
}
