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
    FIELD_VALUE.has_all(bytes)
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
