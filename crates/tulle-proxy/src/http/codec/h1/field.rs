//! Field lines of a head or trailer section (RFC 9112 §5).

use tulle_model::head::grammar::{self, is_token, position_near};
use tulle_model::head::{FieldError, FieldSpans, Headers, KnownId, Span};

use super::{CodecSettings, Underscores, Violation};

/// One field line, as spans of the bytes it was found in.
struct FieldLine {
    field: FieldSpans,
    /// Where the next line begins.
    next: usize,
}

/// Reads `raw[at..]`, field lines and the empty line behind them, into the table. The table's
/// buffer must hold a copy of `raw`.
pub(super) fn parse_fields(
    raw: &[u8],
    at: usize,
    headers: &mut Headers,
    settings: &CodecSettings,
) -> Result<(), Violation> {
    let mut at = at;
    while !raw[at..].starts_with(b"\r\n") {
        let line = parse_line(raw, at)?;
        at = line.next;
        if settings.underscores != Underscores::Allow
            && raw[line.field.name.start()..line.field.name.end()].contains(&b'_')
        {
            if settings.underscores == Underscores::Reject {
                return Err(Violation::Underscore);
            }
            continue;
        }
        if headers.len() == settings.max_fields {
            return Err(Violation::TooManyFields);
        }
        headers.push_received(line.field);
    }
    Ok(())
}

/// Reads a trailer section that was collected in the table's own buffer.
pub(super) fn parse_collected(
    headers: &mut Headers,
    settings: &CodecSettings,
) -> Result<(), Violation> {
    let mut at = 0;
    while !headers.buffer()[at..].starts_with(b"\r\n") {
        let line = parse_line(headers.buffer(), at)?;
        at = line.next;
        if settings.underscores != Underscores::Allow
            && headers.bytes(line.field.name).contains(&b'_')
        {
            if settings.underscores == Underscores::Reject {
                return Err(Violation::Underscore);
            }
            continue;
        }
        if headers.len() == settings.max_fields {
            return Err(Violation::TooManyTrailers);
        }
        headers.push_received(line.field);
    }
    Ok(())
}

/// `field-name ":" OWS field-value OWS CRLF`. No space before the colon; a folded line begins with
/// a space and hence has no name.
fn parse_line(raw: &[u8], at: usize) -> Result<FieldLine, Violation> {
    let name_end = position_near(&raw[at..], b':').ok_or(Violation::FieldName)? + at;
    let name = &raw[at..name_end];
    let id = KnownId::of(name);
    // Known names are tokens.
    if id.is_none() && !is_token(name) {
        return Err(Violation::FieldName);
    }
    let mut start = name_end + 1;
    while let Some(b' ' | b'\t') = raw.get(start) {
        start += 1;
    }
    let line_end = start + grammar::field_value_len(&raw[start..]);
    if !raw[line_end..].starts_with(b"\r\n") {
        return Err(Violation::FieldValue);
    }
    let mut end = line_end;
    while end > start && matches!(raw[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    Ok(FieldLine {
        field: FieldSpans {
            id,
            name: Span::new(at, name_end),
            value: Span::new(start, end),
            is_line: start == name_end + 2 && raw[name_end + 1] == b' ' && end == line_end,
        },
        next: line_end + 2,
    })
}

/// A buffer that would grow over its limit is a head that is too large.
impl From<FieldError> for Violation {
    fn from(error: FieldError) -> Self {
        match error {
            FieldError::Name => Violation::FieldName,
            FieldError::Value => Violation::FieldValue,
            FieldError::TooLarge => Violation::HeadTooLarge,
        }
    }
}
