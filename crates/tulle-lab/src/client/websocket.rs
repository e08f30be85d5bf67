//! The smallest WebSocket peer: a handshake and frames as bytes (RFC 6455 §5.2).

/// The handshake request for `target` at `host`.
#[must_use]
pub fn handshake(host: &str, target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// The answer that accepts [`handshake`].
#[must_use]
pub fn accept() -> Vec<u8> {
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        .to_vec()
}

/// A final text frame, masked as a client must. At most 125 bytes.
#[must_use]
pub fn text_frame(text: &str) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    debug_assert!(text.len() < 126, "one length byte only");
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap_or(125)];
    frame.extend_from_slice(&MASK);
    frame.extend(text.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
