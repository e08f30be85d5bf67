//! What the first bytes of a server say: a greeting, or HTTP that came unasked.
//!
//! A server that speaks before it was spoken to speaks no HTTP, with two exceptions: an HTTP/2
//! server may send its SETTINGS at once (RFC 9113 §3.4), and an HTTP/1 server may answer a
//! connection that it is about to close for its silence (408).

/// Most bytes of a server that are looked at: the header of an HTTP/2 frame.
pub const GREETING_BYTES: usize = 9;
/// How an HTTP/1 answer begins.
const ANSWER: &[u8] = b"HTTP/";
/// The type of a SETTINGS frame (RFC 9113 §6.5).
const SETTINGS: u8 = 4;
/// Longest frame before SETTINGS were exchanged (RFC 9113 §4.2).
const MAX_FRAME_BYTES: u32 = 16 * 1024;
/// Bytes of one setting.
const SETTING_BYTES: u32 = 6;

/// What a server begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Not enough bytes.
    NeedMore,
    /// An HTTP server, which waits for its client.
    Http,
    /// A server that speaks first.
    Other,
}

/// What `bytes`, the first of a server, say.
#[must_use]
pub fn greeting(bytes: &[u8]) -> Greeting {
    if bytes.starts_with(ANSWER) {
        return Greeting::Http;
    }
    if bytes.is_empty() || ANSWER.starts_with(bytes) {
        return Greeting::NeedMore;
    }
    match bytes {
        [high, middle, low, SETTINGS, 0, 0, 0, 0, 0, ..] => {
            let length = u32::from_be_bytes([0, *high, *middle, *low]);
            let is_settings = length <= MAX_FRAME_BYTES && length.is_multiple_of(SETTING_BYTES);
            if is_settings { Greeting::Http } else { Greeting::Other }
        }
        _ if bytes.len() < GREETING_BYTES && may_be_settings(bytes) => Greeting::NeedMore,
        _ => Greeting::Other,
    }
}

/// Whether fewer bytes than a frame header may become that of SETTINGS.
fn may_be_settings(bytes: &[u8]) -> bool {
    let (length, rest) = bytes.split_at(bytes.len().min(3));
    let short = u32::from(length[0]) << 16 <= MAX_FRAME_BYTES;
    short && [SETTINGS, 0, 0, 0, 0, 0].starts_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Greeting) {
        assert_eq!(greeting(bytes), expected, "{bytes:?}");
    }

    #[test]
    fn greetings_of_servers_that_speak_first() {
        for greeting in [
            b"220 mail.example.com ESMTP\r\n".as_slice(),
            b"J\0\0\0\n8.0.36\0",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"* OK IMAP4 ready\r\n",
            b"RFB 003.008\n",
            b"Hello\n",
            b"\0\0\0\0\0\0\0\0\0",
            b"\0\0\x05\x04\0\0\0\0\0",
        ] {
            check(greeting, Greeting::Other);
        }
        check(b"2", Greeting::Other);
        check(b"HE", Greeting::Other);
        check(b"\0\x10\0\0", Greeting::Other);
    }

    #[test]
    fn an_http_server_may_speak_unasked() {
        let settings = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80";
        for end in 0..GREETING_BYTES {
            check(&settings[..end], Greeting::NeedMore);
        }
        check(settings, Greeting::Http);
        check(b"\0\0\0\x04\0\0\0\0\0", Greeting::Http);
        let late = b"HTTP/1.1 408 Request Timeout\r\n";
        for end in 0..ANSWER.len() {
            check(&late[..end], Greeting::NeedMore);
        }
        check(late, Greeting::Http);
    }
}
