//! Scalars of the API: text, numbers, booleans, durations, ports.

use std::time::Duration;

use super::{Field, Wrong};
use crate::diagnostic::Code;
use crate::tree::{Scalar, Style, Value};

/// Longest duration that is accepted.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Field<'_> {
    fn scalar(&self, expected: &str) -> Option<&Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Null | Value::List(_) | Value::Map(_) => {
                self.wrong_type(expected);
                None
            }
        }
    }

    /// A text. A plain number or boolean is refused, as the Kubernetes API refuses it.
    pub fn text(&self) -> Option<String> {
        let scalar = self.scalar("a text")?;
        if scalar.style == Style::Plain && is_typed(&scalar.text) {
            let message = format!("`{}` is a number or boolean where a text belongs", scalar.text);
            let help = format!("write \"{}\" with quotes", scalar.text);
            self.value_problem(Code::WrongType, message, help);
            return None;
        }
        Some(scalar.text.clone())
    }

    /// A text that is not empty.
    pub fn nonempty(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() {
            self.value_problem(Code::MissingField, "the value is empty", "write a value");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        let scalar = self.scalar("true or false")?;
        match (scalar.style != Style::Quoted, scalar.text.as_str()) {
            (true, "true" | "True" | "TRUE") => Some(true),
            (true, "false" | "False" | "FALSE") => Some(false),
            _ => {
                self.wrong_type("true or false");
                None
            }
        }
    }

    /// A whole number within a range.
    pub fn integer(&self, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let scalar = self.scalar("a number")?;
        let number = match scalar.text.parse::<i128>() {
            Ok(number) if scalar.style != Style::Quoted => number,
            _ => {
                self.wrong_type("a number");
                return None;
            }
        };
        match u64::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let message = format!("{number} is out of range");
                let help = format!("write a number from {} to {}", range.start(), range.end());
                self.value_problem(Code::InvalidValue, message, help);
                None
            }
        }
    }

    /// A whole number of 32 bits within a range.
    pub fn number(&self, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let number = self.integer(u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(number).ok()
    }

    /// A port number.
    pub fn port(&self) -> Option<u16> {
        self.integer(1..=65535).and_then(|number| u16::try_from(number).ok())
    }

    /// A percentage, kept in millionths as the wire does.
    pub fn percentage(&self) -> Option<u32> {
        let scalar = self.scalar("a number")?;
        let unquoted = scalar.style != Style::Quoted;
        let Some(value) = scalar.text.parse::<f64>().ok().filter(|_| unquoted) else {
            self.wrong_type("a number");
            return None;
        };
        if !(0.0..=100.0).contains(&value) || (value > 0.0 && value < 0.0001) {
            let message = format!("{value} is not a percentage");
            self.value_problem(Code::InvalidValue, message, "write 0, or 0.0001 to 100");
            return None;
        }
        // In 0..=1_000_000 by the check above.
        Some((value * 10_000.0).round() as u32)
    }

    /// A duration of at least `least`.
    pub fn duration(&self, least: Duration) -> Option<Duration> {
        let scalar = self.scalar("a duration")?;
        let value = match parse_duration(&scalar.text) {
            Ok(value) => value,
            Err(wrong) => {
                self.value_problem(Code::InvalidDuration, wrong.message, wrong.help);
                return None;
            }
        };
        if value < least {
            let message = format!("{} is too short", scalar.text);
            let help = format!("write at least {}", duration_text(least));
            self.value_problem(Code::InvalidDuration, message, help);
            return None;
        }
        Some(value)
    }
}

/// Whether plain text is a number or boolean in YAML's core schema.
fn is_typed(text: &str) -> bool {
    let boolean = matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE");
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let begins = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let hex = digits
        .strip_prefix("0x")
        .is_some_and(|hex| !hex.is_empty() && hex.chars().all(|c| c.is_ascii_hexdigit()));
    boolean || hex || (begins && digits.parse::<f64>().is_ok())
}

/// Reads a duration as Istio does: decimal numbers with `h`, `m`, `s`, `ms`, `us`, `ns`.
pub fn parse_duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("{text:?} is not a duration"),
            "write a number with a unit: 1h, 5m, 30s, 250ms",
        )
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: f64 = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..unit_end] {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return Err(wrong()),
        };
        nanos += number * scale;
        rest = &rest[unit_end..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    if nanos > MAX_DURATION.as_nanos() as f64 {
        return Err(Wrong::new(format!("{text} is too long"), "write at most 87600h"));
    }
    // Non-negative and below u64::MAX nanoseconds by the checks above.
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Writes a duration with the largest unit that keeps it whole.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, scale) in [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)] {
        if nanos > 0 && nanos.is_multiple_of(scale) {
            return format!("{}{unit}", nanos / scale);
        }
    }
    match nanos.is_multiple_of(1_000_000) {
        true => format!("{}ms", nanos / 1_000_000),
        false => format!("{nanos}ns"),
    }
}
