//! The first record of a TLS connection (RFC 8446 §4.1.2), for listeners that look into it.

/// A ClientHello that asks for `server_name` and offers `protocols` (ALPN).
#[must_use]
pub fn client_hello(server_name: &str, protocols: &[&str]) -> Vec<u8> {
    let mut extensions = Vec::new();
    // server_name: a list of one host name (type 0).
    let host = [&[0], &prefixed16(server_name.as_bytes())[..]].concat();
    extensions.extend(extension(0, &prefixed16(&host)));
    // supported_groups x25519, supported_versions TLS 1.3, an empty key share.
    extensions.extend(extension(10, &[0, 2, 0, 0x1d]));
    extensions.extend(extension(43, &[2, 3, 4]));
    extensions.extend(extension(51, &[0, 0]));
    if !protocols.is_empty() {
        let names: Vec<u8> = protocols.iter().flat_map(|name| prefixed8(name.as_bytes())).collect();
        extensions.extend(extension(16, &prefixed16(&names)));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(prefixed8(&[]));
    body.extend(prefixed16(&[0x13, 0x01]));
    body.extend(prefixed8(&[0]));
    body.extend(prefixed16(&extensions));
    let mut handshake = vec![1, 0];
    handshake.extend(prefixed16(&body));
    let mut record = vec![0x16, 3, 1];
    record.extend(prefixed16(&handshake));
    record
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed16(content)].concat()
}

fn prefixed8(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap_or(u8::MAX)], content].concat()
}

fn prefixed16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes()[..], content].concat()
}
