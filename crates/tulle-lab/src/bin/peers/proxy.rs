//! A proxy in front of a backend of its own, and what it makes of a row.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tulle_lab::backend::http1::Backend;
use tulle_lab::client::http1::{Client, Fate};
use tulle_lab::deadline::SOON;
use tulle_lab::envoy::Program;
use tulle_lab::message::{End, Message};
use tulle_lab::ports::PortLease;
use tulle_lab::process::Process;

use crate::row::Row;

/// How long a verdict may take: longer than the proxies wait for the rest of a request.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a backend is waited for whose answer the client has.
const SHORT: Duration = Duration::from_millis(500);

const ENVOY: &str = "\
static_resources:
  listeners:
  - name: http
    address: {socket_address: {address: 127.0.0.1, port_value: {{port}}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.\
http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          http_protocol_options: {enable_trailers: true}
          request_headers_timeout: 2s
          stream_idle_timeout: 2s
          delayed_close_timeout: 1s
          route_config:
            virtual_hosts:
            - name: any
              domains: [\"*\"]
              routes: [{match: {prefix: /}, route: {cluster: a}}]
          http_filters:
          - name: router
            typed_config: {\"@type\": type.googleapis.com/\
envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: a
    load_assignment:
      cluster_name: a
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{backend}}}}}
";
const HAPROXY: &str = "\
global
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 2s
    timeout server 5s
    timeout http-request 2s
frontend in
    bind 127.0.0.1:{{port}}
    default_backend out
backend out
    server one 127.0.0.1:{{backend}}
";
const NGINX: &str = "\
daemon off;
master_process off;
pid {{directory}}/nginx.pid;
error_log {{directory}}/nginx.log crit;
events { worker_connections 256; }
http {
    access_log off;
    client_header_timeout 2s;
    client_body_timeout 2s;
    client_body_temp_path {{directory}}/body;
    proxy_temp_path {{directory}}/proxy;
    fastcgi_temp_path {{directory}}/fastcgi;
    scgi_temp_path {{directory}}/scgi;
    uwsgi_temp_path {{directory}}/uwsgi;
    server {
        listen 127.0.0.1:{{port}};
        location / {
            proxy_pass http://127.0.0.1:{{backend}};
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
        }
    }
}
";

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Tulle,
    Envoy,
    Haproxy,
    Nginx,
}

impl Peer {
    /// Ours first.
    pub const ALL: [Self; 4] = [Self::Tulle, Self::Envoy, Self::Haproxy, Self::Nginx];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tulle => "Tulle",
            Self::Envoy => "Envoy",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }

    fn program(self) -> Result<PathBuf> {
        let name = match self {
            Self::Tulle => return Program::Tulle.path(),
            Self::Envoy => return Program::Envoy.path(),
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        };
        let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
        let found = places.iter().map(|place| Path::new(place).join(name)).find(|p| p.exists());
        found.with_context(|| format!("{name} is missing: run tools/setup.sh bench"))
    }

    /// Its version, as far as it is a number.
    pub fn version(self) -> Result<String> {
        let flag = if matches!(self, Self::Tulle | Self::Envoy) { "--version" } else { "-v" };
        let output = Command::new(self.program()?).arg(flag).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split(|c: char| c.is_whitespace() || c == '/' || c == '-');
        let is_version = |word: &&str| word.contains('.') && word.starts_with(char::is_numeric);
        Ok(words.find(is_version).unwrap_or("unknown").to_owned())
    }

    fn command(self, file: &Path) -> Result<Command> {
        let mut command = match self {
            Self::Tulle => return Program::Tulle.serve(file),
            Self::Envoy => return Program::Envoy.serve(file),
            Self::Haproxy | Self::Nginx => Command::new(self.program()?),
        };
        match self {
            Self::Haproxy => command.args(["-db", "-q", "-f"]),
            _ => command.arg("-c"),
        };
        command.arg(file);
        Ok(command)
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    pub peer: Peer,
    address: SocketAddr,
    backend: Backend,
    _process: Process,
    _lease: PortLease,
    _directory: tempfile::TempDir,
}

impl Proxy {
    pub async fn start(peer: Peer) -> Result<Self> {
        let (backend, lease) = (Backend::start().await?, PortLease::take()?);
        let directory = tempfile::tempdir()?;
        let template = match peer {
            Peer::Tulle | Peer::Envoy => ENVOY,
            Peer::Haproxy => HAPROXY,
            Peer::Nginx => NGINX,
        };
        let text = template
            .replace("{{port}}", &lease.number().to_string())
            .replace("{{backend}}", &backend.address().port().to_string())
            .replace("{{directory}}", &directory.path().display().to_string());
        let file = directory.path().join("proxy.yaml");
        fs::write(&file, text)?;
        let mut process = Process::spawn(peer.name(), peer.command(&file)?, directory.path())?;
        process.listening(&[lease.number()], SOON).await?;
        let address = lease.address();
        let (_process, _lease, _directory) = (process, lease, directory);
        Ok(Self { peer, address, backend, _process, _lease, _directory })
    }

    /// What it makes of the bytes of a row.
    pub async fn play(&self, row: &Row) -> Result<Seen> {
        self.backend.script([]);
        let mut client = Client::connect(self.address).await?.patient(PATIENCE);
        client.send(&row.sent).await;
        let (mut status, mut fate) = (0, "waits");
        if let Ok(exchange) = client.response(row.method).await {
            status = exchange.response.status();
            fate = match exchange.response.end {
                End::Complete => match client.fate("h").await {
                    Ok(Fate::Kept) => "kept",
                    Ok(Fate::Closed | Fate::Reset) => "closed",
                    Ok(Fate::OutOfStep) => "out of step",
                    Err(_) => "waits",
                },
                End::Cut | End::Nothing | End::Reset | End::ResetBefore => "closed",
                End::Malformed(_) => bail!("{}: a malformed answer", self.peer.name()),
            };
        }
        if status == 200 {
            // What is not there by now is seen as it is.
            drop(self.backend.received_within(1, SHORT).await);
        }
        let received = self.backend.so_far();
        let passed = received.iter().filter(|one| one.request.end == End::Complete);
        Ok(Seen { status, fate, passed: passed.map(|one| framed(&one.request)).collect() })
    }
}

/// How a message was framed, whoever wrote its head.
fn framed(request: &Message) -> String {
    format!("{} \"{}\"", request.method(), request.body.escape_ascii())
}

/// What became of one request in one proxy.
#[derive(Debug, Clone)]
pub struct Seen {
    pub status: u16,
    pub fate: &'static str,
    /// The whole requests that its backend got.
    pub passed: Vec<String>,
}
