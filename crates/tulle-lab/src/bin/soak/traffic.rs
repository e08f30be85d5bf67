//! The clients: one process for each protocol, first as fast as it goes, then at a steady rate
//! whatever becomes of the requests. What they saw go wrong is printed at once, between what
//! happened around it and what the proxies logged of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;
use tulle_lab::client::{http1, http2, tcp};
use tulle_lab::deadline::until;
use tulle_lab::load::{Counts, Described, Load};

use crate::journal::Journal;
use crate::mesh::PATIENCE;
use crate::objects;

/// Callers of each protocol while the maximum is measured.
const CALLERS: usize = 16;
/// How long a client waits for an answer: the machine may be busy, the mesh may not.
const TIMEOUT: &str = "10s";
/// One in so many requests is a POST, where methods are chosen.
const POST_EVERY: &str = "100";
/// One in so many requests opens a new connection in place of the oldest idle one.
const FRESH_EVERY: &str = "20";
/// Long streams of each of the two protocols that have them.
pub const STREAMS: usize = 25;
/// Failures that are printed with everything known of them.
const EXPLAINED: usize = 40;
/// How much of the end of a log is searched for a failure, in bytes.
const LOG_TAIL: u64 = 4 * 1024 * 1024;
/// Log lines that are printed for one failure.
const LOG_LINES: usize = 12;
/// How long after a failure its log lines are there.
const LOGGED: Duration = Duration::from_millis(500);

/// What is spoken, and where.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// As the load generator calls it.
    pub protocol: &'static str,
    port: u16,
    has_streams: bool,
}

/// All protocols.
pub const LANES: [Lane; 4] = [
    Lane { protocol: "http1", port: objects::HTTP1, has_streams: false },
    Lane { protocol: "http2", port: objects::HTTP2, has_streams: false },
    Lane { protocol: "grpc", port: objects::HTTP2, has_streams: true },
    Lane { protocol: "tcp", port: objects::TCP, has_streams: true },
];

impl Lane {
    fn start(&self, arguments: &[&str], duration: Duration) -> Result<Load> {
        let scheme = if self.protocol == "tcp" { "tcp" } else { "http" };
        let target = format!("{scheme}://echo:{}/", self.port);
        let connect = format!("{}:{}", objects::ADDRESS, self.port);
        let milliseconds = format!("{}ms", duration.as_millis());
        let mut all = vec!["--target", &target, "--connect", &connect, "--timeout", TIMEOUT];
        all.extend(["--protocol", self.protocol, "--duration", &milliseconds]);
        all.extend(["--fresh-every", FRESH_EVERY]);
        if self.protocol.starts_with("http") {
            all.extend(["--post-every", POST_EVERY]);
        }
        all.extend(arguments);
        Load::start(&all)
    }
}

/// What one lane did in all.
#[derive(Debug)]
pub struct Sum {
    /// Its protocol.
    pub protocol: &'static str,
    /// What was asked of it, in requests per second.
    pub rate: f64,
    /// What came of it.
    pub counts: Counts,
}

/// What clients need to tell of their failures.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Where it is told.
    pub journal: Rc<Journal>,
    /// Where the proxies log.
    pub logs: PathBuf,
}

/// Waits until each lane's destination has answered once: how the first call of a destination fares
/// is another check.
pub async fn first_answers() -> Result<()> {
    let address = |port| SocketAddr::from((objects::ADDRESS, port));
    let http1 = until("a first answer over HTTP/1", PATIENCE, || async {
        let mut client = http1::Client::connect(address(objects::HTTP1)).await.ok()?;
        (client.get("echo", "/").await.ok()?.status() == 200).then_some(())
    });
    http1.await?;
    let http2 = until("a first answer over HTTP/2", PATIENCE, || async {
        let client = http2::Client::connect(address(objects::HTTP2)).await.ok()?;
        let request = http2::Http2Request::get("echo:9090", "/");
        (client.exchange(&request).await.ok()?.status == 200).then_some(())
    });
    http2.await?;
    let tcp = until("a first echo over TCP", PATIENCE, || async {
        let mut connection = tcp::Connection::connect(address(objects::TCP)).await.ok()?;
        connection.send(b"x").await;
        (connection.read_exactly(1).await.ok()? == b"x").then_some(())
    });
    tcp.await
}

/// The most that each lane gets through when all of them try at once, in requests per second.
pub async fn maximum(witness: &Witness, duration: Duration) -> Result<Vec<Sum>> {
    let callers = CALLERS.to_string();
    let mut lanes = Vec::new();
    for lane in LANES {
        lanes.push((lane, 0.0, lane.start(&["--closed", &callers], duration)?));
    }
    watch(witness, lanes, duration).await
}

/// A steady rate for each lane, and the long streams.
pub async fn steady(witness: &Witness, rates: &[f64], duration: Duration) -> Result<Vec<Sum>> {
    let streams = STREAMS.to_string();
    let mut lanes = Vec::new();
    for (lane, rate) in LANES.into_iter().zip(rates) {
        let text = rate.to_string();
        let mut arguments = vec!["--rate", &text];
        if lane.has_streams {
            arguments.extend(["--streams", &streams]);
        }
        lanes.push((lane, *rate, lane.start(&arguments, duration)?));
    }
    watch(witness, lanes, duration).await
}

async fn watch(
    witness: &Witness,
    mut lanes: Vec<(Lane, f64, Load)>,
    duration: Duration,
) -> Result<Vec<Sum>> {
    let mut told = vec![0; lanes.len()];
    while lanes.iter_mut().any(|(_, _, load)| load.is_running()) {
        sleep(Duration::from_secs(1)).await;
        for ((lane, _, load), told) in lanes.iter().zip(&mut told) {
            let seconds = load.seconds();
            for second in &seconds[*told..] {
                witness.tell(lane.protocol, &second.described).await;
            }
            *told = seconds.len();
        }
    }
    let mut sums = Vec::new();
    for ((lane, rate, load), told) in lanes.into_iter().zip(told) {
        let known: usize = load.seconds()[..told].iter().map(|one| one.described.len()).sum();
        let counts = load.finish(duration).await?;
        witness.tell(lane.protocol, &counts.described[known..]).await;
        sums.push(Sum { protocol: lane.protocol, rate, counts });
    }
    Ok(sums)
}

impl Witness {
    async fn tell(&self, protocol: &str, failures: &[Described]) {
        for failure in failures {
            let at = self.journal.since_beginning(failure.unix_ms);
            let Described { outcome, detail, unix_ms, .. } = failure;
            self.journal.count("failure", format!("FAILURE {protocol} {outcome}"));
            self.journal.say(&format!("FAILURE at {at:.3}s {protocol} {outcome}: {detail}"));
            if self.journal.counted("failure") > EXPLAINED as u64 {
                continue;
            }
            for line in self.journal.around(*unix_ms) {
                println!("             around: {line}");
            }
            sleep(LOGGED).await;
            let id = detail.split(';').next().unwrap_or_default();
            for line in self.logged(protocol, id) {
                println!("             logged: {line}");
            }
        }
    }

    /// What the proxies logged of a request; of a connection, what the caller's sidecar logged of
    /// those that failed lately.
    fn logged(&self, protocol: &str, id: &str) -> Vec<String> {
        let of_request = format!("\"{id}\"");
        let is_meant = |line: &&str| match protocol {
            "tcp" => line.contains("\"- - -\" 0 ") && !line.contains("\"- - -\" 0 - "),
            _ => line.contains(&of_request),
        };
        let files = std::fs::read_dir(&self.logs).into_iter().flatten().flatten();
        let outputs = files.map(|file| file.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name == "caller.out" || (name.ends_with("-sidecar.out") && protocol != "tcp")
        });
        let mut lines = Vec::new();
        for path in outputs {
            let text = tail(&path).unwrap_or_default();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let found: Vec<_> = text.lines().filter(is_meant).collect();
            let last = &found[found.len().saturating_sub(LOG_LINES)..];
            lines.extend(last.iter().map(|line| format!("{name}: {line}")));
        }
        lines.truncate(LOG_LINES);
        lines
    }
}

fn tail(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Failures of all lanes by their kind.
pub fn failures(sums: &[Sum]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (kind, count) in sums.iter().flat_map(|sum| &sum.counts.failures) {
        *all.entry(kind.clone()).or_default() += count;
    }
    all
}
