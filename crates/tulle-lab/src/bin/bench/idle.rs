//! What proxies hold that do nothing (P7): the process itself, and each connection that is open.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

use crate::generate::{ANSWER_LIMIT, one_request};
use crate::measure::memory;
use crate::mesh;
use crate::profiles::{Bench, Figures, Outcome, allow_files};
use crate::subject::Protocol;

/// Connections that are opened and left idle.
const CONNECTIONS: usize = 1_000;

/// What begins an HTTP/2 connection, empty settings, and `GET / http://bench` on stream 1
/// (RFC 9113 §3.4, §4.1; RFC 7541 §6).
const HTTP2_REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x0a\x01\x05\x00\x00\x00\x01\x82\x86\x84\x01\x05bench";
/// An acknowledgement of settings.
const SETTINGS_ACK: &[u8] = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00";
const END_STREAM: u8 = 1;

/// Memory when idle, alone and with idle connections of each kind; last a sidecar whose control
/// plane is up.
pub async fn measure(bench: &Bench) -> Result<Outcome> {
    allow_files()?;
    let mut outcome: Outcome = Vec::new();
    for (protocol, kind) in [
        (Protocol::Http1, "kB/HTTP/1"),
        (Protocol::Http2, "kB/HTTP/2"),
        (Protocol::Tcp, "kB/TCP pair"),
    ] {
        let stage = bench.stage(protocol).await?;
        for (subject, running) in &stage.proxies {
            let pid = running.process.pid();
            let open = || open(protocol, running.address).with_context(|| subject.name());
            let first = open()?;
            let idle = memory(pid)?;
            let connections = (0..CONNECTIONS).map(|_| open()).collect::<Result<Vec<_>>>()?;
            let each = memory(pid)?.saturating_sub(idle) as f64 / 1e3 / CONNECTIONS as f64;
            drop((first, connections));
            let mut figures = Figures::from([(kind.to_owned(), each)]);
            if protocol == Protocol::Http1 {
                figures.insert("idle MB".to_owned(), idle as f64 / 1e6);
            }
            match outcome.iter_mut().find(|(name, _)| *name == subject.name()) {
                Some((_, rounds)) => rounds[0].extend(figures),
                None => outcome.push((subject.name(), vec![figures])),
            }
        }
    }
    let sidecar = mesh::idle_sidecar().await? as f64 / 1e6;
    outcome.push(("sidecar", vec![Figures::from([("idle MB".to_owned(), sidecar)])]));
    Ok(outcome)
}

/// A connection on which one request was answered.
fn open(protocol: Protocol, address: SocketAddr) -> Result<TcpStream> {
    match protocol {
        // The backend speaks HTTP/1 to whoever comes through.
        Protocol::Http1 | Protocol::Tcp => one_request(address),
        Protocol::Http2 => one_http2_request(address),
    }
}

fn one_http2_request(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(HTTP2_REQUEST)?;
    stream.write_all(SETTINGS_ACK)?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).context("the answer is cut")?;
        let [a, b, c, kind, flags, rest @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        let stream_id = u32::from_be_bytes(rest);
        match kind {
            0 | 1 if stream_id == 1 && flags & END_STREAM != 0 => return Ok(stream),
            3 | 7 => bail!("the stream was refused: frame {kind}, {payload:?}"),
            _ => {}
        }
    }
}
