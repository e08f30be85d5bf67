//! One proxy with its listeners and the upstreams behind it: a stage on which rows are played.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::row::{Client, Http1Step, Row, Script};
use super::{template, transcript};
use crate::backend::{http1, http2, tcp};
use crate::client;
use crate::deadline::until;
use crate::envoy::Program;
use crate::ports::PortLease;
use crate::process::Process;

/// How a line begins that says that the client did not come to its end.
const FAILED: &str = "the client failed: ";
/// How the part of a transcript begins that an upstream saw.
pub(super) const UPSTREAM: &str = "upstream ";
/// What is missing for rows whose client is a stranger.
const NO_ADDRESS: &str = "this machine has no address but loopback and no default route; give it \
                          one: ip link add stranger type dummy && ip addr add 192.0.2.2/24 dev \
                          stranger && ip link set stranger up";
/// How long anything a client expects may take.
const PATIENCE: Duration = Duration::from_secs(6);

/// The proxy and everything around it; all of it ends when dropped.
#[derive(Debug)]
pub struct Stage {
    process: Process,
    /// Lines of its log that rows have looked at.
    logged: Cell<usize>,
    patience: Duration,
    ports: BTreeMap<(String, String), u16>,
    http1: BTreeMap<String, http1::Backend>,
    http2: BTreeMap<String, http2::Backend>,
    tcp: BTreeMap<String, tcp::Backend>,
    _leases: Vec<PortLease>,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// Starts the upstreams a configuration names and a proxy that runs it.
    ///
    /// # Errors
    /// When the configuration has an unknown placeholder or the proxy does not start.
    pub async fn open(program: Program<'_>, config: &str) -> Result<Self> {
        Self::open_with(program, config, PATIENCE).await
    }

    /// The same, with how long upstreams are waited for once a client is done.
    ///
    /// # Errors
    /// When the configuration has an unknown placeholder or the proxy does not start.
    pub async fn open_with(program: Program<'_>, config: &str, patience: Duration) -> Result<Self> {
        let (mut http1, mut http2, mut tcp) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut ports, mut leases) = (BTreeMap::new(), Vec::new());
        for (kind, name) in template::placeholders(config) {
            let port = match kind.as_str() {
                "http1" => {
                    let backend = http1::Backend::start().await?;
                    http1.entry(name.clone()).insert_entry(backend).get().address().port()
                }
                "http2" => {
                    let backend = http2::Backend::start().await?;
                    http2.entry(name.clone()).insert_entry(backend).get().address().port()
                }
                "tcp" => {
                    let backend = tcp::Backend::start().await?;
                    tcp.entry(name.clone()).insert_entry(backend).get().address().port()
                }
                "port" | "dead" | "admin" => {
                    leases.push(PortLease::take()?);
                    leases.last().map_or(0, PortLease::number)
                }
                other => bail!("no such placeholder: {other}"),
            };
            ports.insert((kind, name), port);
        }
        let directory = tempfile::tempdir()?;
        let listeners = ports.iter().filter(|((kind, _), _)| kind == "port");
        let listeners: Vec<u16> = listeners.map(|(_, port)| *port).collect();
        let config = template::fill(config, &ports);
        let process = program.start(&config, &listeners, directory.path()).await?;
        let _leases = leases;
        let (logged, _directory) = (Cell::new(0), directory);
        Ok(Self { process, logged, patience, ports, http1, http2, tcp, _leases, _directory })
    }

    /// Plays one row and says what could be observed.
    pub async fn play(&self, row: &Row) -> Vec<String> {
        self.prepare(row);
        let mut lines = match self.client(row).await {
            Ok(lines) => lines,
            Err(error) => vec![format!("{FAILED}{error:#}")],
        };
        lines.extend(self.upstreams(row).await);
        lines.extend(self.log(row).await);
        lines.into_iter().map(|line| self.without_ports(line)).collect()
    }

    /// Where the listener of this name is.
    ///
    /// # Errors
    /// When the configuration has none.
    pub fn listener(&self, name: &str) -> Result<SocketAddr> {
        port(&self.ports, "port", name)
    }

    /// The HTTP/1 upstream of this name.
    ///
    /// # Errors
    /// When the configuration has none.
    pub fn http1(&self, name: &str) -> Result<&http1::Backend> {
        self.http1.get(name).with_context(|| format!("the configuration has no http1 {name}"))
    }

    /// The HTTP/2 upstream of this name.
    ///
    /// # Errors
    /// When the configuration has none.
    pub fn http2(&self, name: &str) -> Result<&http2::Backend> {
        self.http2.get(name).with_context(|| format!("the configuration has no http2 {name}"))
    }

    /// The TCP upstream of this name.
    ///
    /// # Errors
    /// When the configuration has none.
    pub fn tcp(&self, name: &str) -> Result<&tcp::Backend> {
        self.tcp.get(name).with_context(|| format!("the configuration has no tcp {name}"))
    }

    /// Memory of the proxy that is in RAM, in KiB.
    ///
    /// # Errors
    /// When the proxy has ended.
    pub fn resident_kib(&self) -> Result<u64> {
        self.process.resident_kib()
    }

    /// What the proxy wrote so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.tail()
    }

    fn prepare(&self, row: &Row) {
        let script = |name: &str| {
            let named = row.upstreams.iter().find(|(known, _)| *known == name);
            named.map(|(_, script)| script.clone())
        };
        for (name, backend) in &self.http1 {
            let Some(Script::Http1(answers)) = script(name) else {
                backend.script([]);
                continue;
            };
            backend.script(answers);
        }
        for (name, backend) in &self.http2 {
            let Some(Script::Http2(answers)) = script(name) else {
                backend.script([]);
                continue;
            };
            backend.script(answers);
        }
        for (name, backend) in &self.tcp {
            let Some(Script::Tcp(connections)) = script(name) else {
                backend.script([]);
                continue;
            };
            backend.script(connections);
        }
    }

    async fn client(&self, row: &Row) -> Result<Vec<String>> {
        let mut address = port(&self.ports, "port", row.listener)?;
        if row.from_outside {
            address.set_ip(host_address()?);
        }
        match &row.client {
            Client::Http1(steps) => {
                let steps: Vec<_> = steps.iter().map(|step| self.with_ports(step)).collect();
                self.http1_client(address, &steps).await
            }
            Client::Http2(requests) => {
                let client = client::http2::Client::connect(address).await?.patient(PATIENCE);
                let mut lines = Vec::new();
                for request in requests {
                    let response = client.exchange(request).await?;
                    lines.extend(transcript::http2_response(&response));
                }
                Ok(lines)
            }
            Client::Tcp(connections) => {
                let mut lines = Vec::new();
                for steps in connections {
                    let connection = client::tcp::Connection::connect(address).await?;
                    let connection = connection.patient(PATIENCE);
                    let seen = tcp::act(connection, steps.clone()).await;
                    lines.extend(transcript::tcp_seen(&seen));
                }
                Ok(lines)
            }
        }
    }

    /// Acts the steps of an HTTP/1 client out; what it saw.
    async fn http1_client(&self, address: SocketAddr, steps: &[Http1Step]) -> Result<Vec<String>> {
        let mut client = client::http1::Client::connect(address).await?.patient(PATIENCE);
        let begun = Instant::now();
        let mut lines = Vec::new();
        for step in steps {
            match step {
                Http1Step::Send(bytes) => client.send(bytes).await,
                Http1Step::Response(method) => {
                    lines.extend(transcript::exchange(&client.response(method).await?));
                }
                Http1Step::Interim => {
                    lines.extend(transcript::message("interim", &client.interim().await?));
                }
                Http1Step::Read(count) => {
                    let bytes = client.read_exactly(*count).await?;
                    lines.push(format!("tunnel \"{}\"", bytes.escape_ascii()));
                }
                Http1Step::ReadToEnd => {
                    let (bytes, close) = client.read_to_end().await?;
                    lines.push(format!("rest \"{}\" closed {close:?}", bytes.escape_ascii()));
                }
                Http1Step::Begun(name, bytes) => self.http1(name)?.begun(*bytes).await?,
                Http1Step::Wait(time) => tokio::time::sleep(*time).await,
                Http1Step::LongerThan(time) => {
                    lines.push(format!("longer than {time:?}: {}", begun.elapsed() > *time));
                }
                Http1Step::HalfClose => client.half_close().await,
                Http1Step::Reset => {
                    client.reset();
                    return Ok(lines);
                }
                Http1Step::Probe => {
                    lines.push(transcript::fate(client.fate("probe.test").await?));
                    return Ok(lines);
                }
            }
        }
        Ok(lines)
    }

    /// What every upstream received; one that received too little is not waited for long.
    async fn upstreams(&self, row: &Row) -> Vec<String> {
        let expected = |name: &str| {
            let named = row.upstreams.iter().find(|(known, _)| *known == name);
            named.map_or(0, |(_, script)| script.len())
        };
        let mut lines = Vec::new();
        for (name, backend) in &self.http1 {
            let waited = backend.received_within(expected(name), self.patience).await;
            for received in waited.unwrap_or_else(|_| backend.so_far()) {
                lines.push(format!("{UPSTREAM}{name}"));
                lines.extend(transcript::received(&received));
            }
        }
        for (name, backend) in &self.http2 {
            let waited = backend.received_within(expected(name), self.patience).await;
            for received in waited.unwrap_or_else(|_| backend.so_far()) {
                lines.push(format!("{UPSTREAM}{name}"));
                lines.extend(transcript::http2_received(&received));
            }
        }
        for (name, backend) in &self.tcp {
            let waited = backend.seen_within(expected(name), self.patience).await;
            for seen in waited.unwrap_or_else(|_| backend.so_far()) {
                lines.push(format!("{UPSTREAM}{name}"));
                lines.extend(transcript::tcp_seen(&seen));
            }
        }
        lines
    }

    /// What the access log says of a row that looks at it.
    async fn log(&self, row: &Row) -> Vec<String> {
        let before = self.logged.get();
        let lines = || {
            let text = self.process.stdout();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().skip(before).map(transcript::logged).collect::<Vec<_>>()
        };
        let enough = until("lines of the log", self.patience, || async {
            (lines().len() >= row.logged).then_some(())
        });
        // Too few are a difference that the transcript shows.
        drop(enough.await);
        let lines = lines();
        self.logged.set(before + lines.len());
        if row.logged == 0 { Vec::new() } else { lines }
    }

    /// A step in whose bytes placeholders became this stage's ports.
    fn with_ports(&self, step: &Http1Step) -> Http1Step {
        match step {
            Http1Step::Send(bytes) if bytes.windows(2).any(|pair| pair == b"{{") => {
                let text = String::from_utf8_lossy(bytes);
                Http1Step::Send(template::fill(&text, &self.ports).into_bytes())
            }
            step => step.clone(),
        }
    }

    /// Ports differ from stage to stage: their names stand for them.
    fn without_ports(&self, line: String) -> String {
        self.ports.iter().fold(line, |line, ((kind, name), port)| {
            line.replace(&format!(":{port}"), &format!(":<{kind} {name}>"))
        })
    }
}

/// Whether a line says that somebody did not come to the end of what it was to do.
pub(super) fn is_unfinished(line: &str) -> bool {
    line.starts_with(FAILED) || line.starts_with(transcript::STUCK)
}

fn port(ports: &BTreeMap<(String, String), u16>, kind: &str, name: &str) -> Result<SocketAddr> {
    let found = ports.get(&(kind.to_owned(), name.to_owned()));
    let port = found.with_context(|| format!("the configuration has no {kind} {name}"))?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
}

/// An address of this machine that is not loopback.
///
/// # Errors
/// When it has none: a row about strangers proves nothing then.
fn host_address() -> Result<IpAddr> {
    // Connecting a UDP socket sends nothing; it only chooses a source address.
    let chosen = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let address = chosen.context(NO_ADDRESS)?.ip();
    ensure!(!address.is_loopback(), NO_ADDRESS);
    Ok(address)
}
