//! Which bytes may stand where in a message head (RFC 9110 §5, RFC 9112 §3), as constant tables.
//!
//! Codecs and edits ask the same tables, so nothing can be written that would be refused on
//! reading. Parsing is strict: what the grammar does not name is refused, never repaired.

/// A set of bytes.
#[derive(Clone, Copy)]
pub struct ByteSet([bool; 256]);

impl ByteSet {
    const fn of(members: &[u8]) -> ByteSet {
        let mut table = [false; 256];
        let mut index = 0;
        while index < members.len() {
            table[members[index] as usize] = true;
            index += 1;
        }
        ByteSet(table)
    }

    const fn with_range(mut self, first: u8, last: u8) -> ByteSet {
        let mut byte = first as usize;
        while byte <= last as usize {
            self.0[byte] = true;
            byte += 1;
        }
        self
    }

    const fn with_alphanumeric(self) -> ByteSet {
        self.with_range(b'0', b'9').with_range(b'A', b'Z').with_range(b'a', b'z')
    }

    /// Whether `byte` is in the set.
    #[inline]
    pub const fn has(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }

    /// Whether every byte is in the set (true for none).
    #[inline]
    pub fn has_all(&self, bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| self.has(byte))
    }

    /// Length of the longest prefix within the set.
    #[inline]
    pub fn prefix_len(&self, bytes: &[u8]) -> usize {
        bytes.iter().position(|&byte| !self.has(byte)).unwrap_or(bytes.len())
    }
}

/// `tchar` (RFC 9110 §5.6.2).
pub static TOKEN: ByteSet = ByteSet::of(b"!#$%&'*+-.^_`|~").with_alphanumeric();

/// Bytes of a field value: `VCHAR`, `obs-text`, space and tab (RFC 9110 §5.5).
pub static FIELD_VALUE: ByteSet = ByteSet::of(b"\t ").with_range(0x21, 0x7e).with_range(0x80, 0xff);

/// Bytes of a request target in origin form: visible ASCII without `#` and backslash. RFC 3986's
/// `pchar / "/" / "?"` plus the bytes that clients send unescaped in practice (`"<>[]^`{|}`).
pub static TARGET: ByteSet = ByteSet::of(b"!\"").with_range(b'$', b'[').with_range(b']', b'~');

/// Bytes of a `reg-name` (RFC 3986 §3.2.2) without percent escapes: what a host name may hold.
pub static REG_NAME: ByteSet = ByteSet::of(b"-._~!$&'()*+,;=").with_alphanumeric();

/// A non-empty token: header names, methods, upgrade protocols.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && TOKEN.has_all(bytes)
}

/// A field value, possibly empty.
#[inline]
pub fn is_field_value(bytes: &[u8]) -> bool {
    field_value_len(bytes) == bytes.len()
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The high bit of the first of eight bytes, in little-endian order, that is a control byte
/// (`< 0x20` or `0x7f`), and perhaps of bytes behind it.
const fn controls(word: u64) -> u64 {
    let below_space = word.wrapping_sub(LOW_BITS * 0x20) & !word;
    (below_space | zeros(word ^ (LOW_BITS * 0x7f))) & HIGH_BITS
}

/// The same for zero bytes.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS
}

/// Length of the longest prefix that may stand in a field value, eight bytes at a time.
#[inline]
pub fn field_value_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let found = controls(u64::from_le_bytes(*word));
        if found == 0 {
            at += 8;
            continue;
        }
        // Mostly the CR of the line.
        at += found.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    at + FIELD_VALUE.prefix_len(&bytes[at..])
}

/// Where the first `wanted` is, eight bytes at a time: for the few bytes of a name, where a
/// call of `memchr` costs more than it saves.
#[inline]
pub fn position_near(bytes: &[u8], wanted: u8) -> Option<usize> {
    let pattern = LOW_BITS * wanted as u64;
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let found = zeros(u64::from_le_bytes(*word) ^ pattern);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == wanted).map(|found| at + found)
}

/// Path and query, `*`, or nothing (CONNECT).
pub fn is_target(bytes: &[u8]) -> bool {
    match bytes.first() {
        None => true,
        Some(b'*') => bytes.len() == 1,
        Some(b'/') => TARGET.has_all(bytes),
        Some(_) => false,
    }
}

/// `bytes` without the spaces and tabs (`OWS`) around them.
#[inline]
pub fn trim_ows(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    while let [head @ .., b' ' | b'\t'] = rest {
        rest = head;
    }
    rest
}

/// `1*DIGIT` without overflow: no sign, space or prefix.
pub fn parse_u64(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_value_scan_equals_the_table_at_every_offset() {
        for byte in 0..=255u8 {
            for at in 0..40 {
                for len in [at + 1, 40] {
                    let mut value = vec![b'v'; len];
                    value[at] = byte;
                    assert_eq!(
                        field_value_len(&value),
                        FIELD_VALUE.prefix_len(&value),
                        "byte {byte:#x} at {at} of {len}"
                    );
                }
            }
        }
        assert_eq!(field_value_len(b""), 0);
        assert_eq!(field_value_len("\tä\t".repeat(9).as_bytes()), 36);
    }

    #[test]
    fn the_fast_search_equals_the_plain_one() {
        for byte in 0..=255u8 {
            for at in 0..20 {
                let mut bytes = [byte.wrapping_add(1); 20];
                bytes[at] = byte;
                bytes[19] = byte;
                assert_eq!(position_near(&bytes, byte), Some(at));
                assert_eq!(position_near(&bytes[..at], byte), None);
            }
        }
    }

    #[test]
    fn numbers_have_no_sign_space_or_overflow() {
        assert_eq!(parse_u64(b"0"), Some(0));
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        for text in ["", "+5", "-5", " 5", "5 ", "0x5", "1,2", "18446744073709551616", "٣"] {
            assert_eq!(parse_u64(text.as_bytes()), None, "{text:?}");
        }
    }
}
