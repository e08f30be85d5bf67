//! What loads the proxies: wrk and h2load as fast as they can, and requests at a fixed rate.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{Timespec, nanosleep};
use serde::{Deserialize, Serialize};

use crate::measure::output;
use crate::subject::{LOAD_CPU, Protocol, installed, pinned};

/// Connections over which requests at a fixed rate are spread.
const PACED_CONNECTIONS: u32 = 8;
/// A request without an answer for so long ends the measurement.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n";

/// What a generator saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Requests that were answered with 2xx.
    pub requests: u64,
    /// The same in a second.
    pub per_second: f64,
    /// Microseconds that half of them took at most; the mean for h2load, which says no more.
    pub p50: f64,
    /// Microseconds that 99 % took at most.
    pub p99: Option<f64>,
    /// Microseconds that 99.9 % took at most.
    pub p999: Option<f64>,
}

/// wrk with one thread.
pub fn wrk(address: SocketAddr, connections: u32, seconds: u64) -> Result<Seen> {
    let mut command = pinned(LOAD_CPU, &installed("wrk")?);
    command.args(["-t1", "--latency", "-c", &connections.to_string()]);
    command.args(["-d", &format!("{seconds}s"), &format!("http://{address}/")]);
    wrk_output(&output(command)?)
}

fn wrk_output(text: &str) -> Result<Seen> {
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx")) {
        bail!("wrk: {}", line.trim());
    }
    if let Some(line) = text.lines().find(|line| line.contains("Socket errors")) {
        bail!("wrk: {}", line.trim());
    }
    let after = |key: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(key));
        let line = line.with_context(|| format!("wrk says no {key}:\n{text}"))?;
        line.split_whitespace().nth(1).with_context(|| format!("wrk says nothing at {key}"))
    };
    let total = text.lines().find(|line| line.contains(" requests in "));
    let total = total.and_then(|line| line.split_whitespace().next()).context("no requests")?;
    Ok(Seen {
        requests: total.parse()?,
        per_second: after("Requests/sec:")?.parse()?,
        p50: microseconds(after("50%")?)?,
        p99: Some(microseconds(after("99%")?)?),
        p999: None,
    })
}

/// h2load with 4 connections of 16 streams.
pub fn h2load(address: SocketAddr, seconds: u64) -> Result<Seen> {
    let mut command = pinned(LOAD_CPU, &installed("h2load")?);
    command.args(["-t1", "-c4", "-m16", "-D", &seconds.to_string(), &format!("http://{address}/")]);
    h2load_output(&output(command)?)
}

/// As many requests as said, over kept connections: 8 of HTTP/1, or 4 of HTTP/2 with 16 streams.
pub fn h2load_number(address: SocketAddr, protocol: Protocol, requests: u64) -> Result<Seen> {
    let mut command = pinned(LOAD_CPU, &installed("h2load")?);
    match protocol {
        Protocol::Http1 | Protocol::Tcp => command.args(["--h1", "-t1", "-c8", "-m1"]),
        Protocol::Http2 => command.args(["-t1", "-c4", "-m16"]),
    };
    command.args(["-n", &requests.to_string(), &format!("http://{address}/")]);
    h2load_output(&output(command)?)
}

fn h2load_output(text: &str) -> Result<Seen> {
    let line = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        found.with_context(|| format!("h2load says no {key}:\n{text}"))
    };
    let counts = line("requests: ")?;
    let count = |what: &str| {
        let part = counts.split(", ").find_map(|part| part.strip_suffix(what));
        part.and_then(|number| number.trim().parse::<u64>().ok()).with_context(|| what.to_owned())
    };
    if count(" failed")? > 0 {
        bail!("h2load: {counts}");
    }
    let rate = line("finished in ")?.split(", ").nth(1).context("no rate")?;
    let mean = line("time for request:")?.split_whitespace().nth(2).context("no mean")?;
    Ok(Seen {
        requests: count(" succeeded")?,
        per_second: rate.trim_end_matches(" req/s").parse()?,
        p50: microseconds(mean)?,
        p99: None,
        p999: None,
    })
}

fn microseconds(text: &str) -> Result<f64> {
    let split = text.find(|c: char| c.is_alphabetic()).context("a time without a unit")?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        other => bail!("unknown unit {other}"),
    };
    Ok(number.parse::<f64>()? * factor)
}

/// Requests at a fixed rate by this program in a process of its own.
pub fn paced_process(address: SocketAddr, rate: u32, seconds: u64) -> Result<Seen> {
    let program = std::env::current_exe()?;
    let mut command = pinned(LOAD_CPU, Path::new(&program));
    command.arg("load").arg(address.to_string()).args([rate.to_string(), seconds.to_string()]);
    Ok(serde_json::from_str(&output(command)?)?)
}

/// Sends `rate` requests a second over some connections. The time of a request counts from when
/// it should have been sent, so that a stalled proxy is not spared its waiting requests.
pub fn paced(address: SocketAddr, rate: u32, seconds: u32) -> Result<Seen> {
    let interval = Duration::from_secs(1) * PACED_CONNECTIONS / rate;
    let count = rate * seconds / PACED_CONNECTIONS;
    let start = Instant::now() + Duration::from_millis(100);
    let runs: Vec<_> = (0..PACED_CONNECTIONS)
        .map(|index| {
            let first = start + interval * index / PACED_CONNECTIONS;
            std::thread::spawn(move || paced_connection(address, first, interval, count))
        })
        .collect();
    let mut times = Vec::new();
    for run in runs {
        let Ok(result) = run.join() else { bail!("a connection's thread ended early") };
        times.extend(result?);
    }
    let mut times: Vec<f64> =
        times.iter().map(|time: &Duration| time.as_secs_f64() * 1e6).collect();
    let mut at = |share: f64| percentile(&mut times, share);
    Ok(Seen {
        p50: at(0.5),
        p99: Some(at(0.99)),
        p999: Some(at(0.999)),
        requests: times.len() as u64,
        per_second: f64::from(rate),
    })
}

/// What `share` of the values do not exceed; 0 of none. Sorts them.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or_default()
}

fn paced_connection(
    address: SocketAddr,
    first: Instant,
    interval: Duration,
    count: u32,
) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut times = Vec::with_capacity(count as usize);
    for index in 0..count {
        let due = first + interval * index;
        wait_until(due);
        stream.write_all(REQUEST)?;
        read_answer(&mut stream)?;
        times.push(due.elapsed());
    }
    Ok(times)
}

/// Waits as exactly as the kernel allows: the rate is what is measured with.
fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return };
        if left.tv_sec == 0 && left.tv_nsec == 0 {
            return;
        }
        // Woken early it looks again.
        let _ = nanosleep(&left);
    }
}

/// Reads one answer of the backend, whatever headers the proxy added.
pub fn read_answer(stream: &mut TcpStream) -> Result<()> {
    let mut bytes = [0; 4096];
    let mut length = 0;
    loop {
        match stream.read(&mut bytes[length..])? {
            0 => bail!("the answer is cut"),
            read => length += read,
        }
        // The backend's body ends with a line end, and no head is followed by nothing.
        let answer = &bytes[..length];
        if answer.ends_with(b"45\r\n") {
            if !answer.starts_with(b"HTTP/1.1 200") {
                bail!("not 200: {}", String::from_utf8_lossy(answer));
            }
            return Ok(());
        }
    }
}

/// Opens a connection and has one request answered on it.
pub fn one_request(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(REQUEST)?;
    read_answer(&mut stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_understood() {
        let text = "Running 3s test @ http://127.0.0.1:1/\n  Latency Distribution\n     \
            50%    1.15ms\n     75%    1.28ms\n     99%  900.00us\n  \
            80621 requests in 3.00s, 9.84MB read\nRequests/sec:  26861.56\n";
        let seen = wrk_output(text).unwrap();
        assert_eq!((seen.requests, seen.p50, seen.p99), (80_621, 1_150.0, Some(900.0)));
        assert!(wrk_output(&format!("{text}  Non-2xx or 3xx responses: 5\n")).is_err());
    }

    #[test]
    fn what_h2load_says_is_understood() {
        let text = "finished in 2.00s, 71234.50 req/s, 3.2MB/s\n\
            requests: 142469 total, 142533 started, 142469 done, 142469 succeeded, 0 failed, \
            0 errored, 0 timeout\n\
            time for request:      210us      5.46ms       879us  190us  91%\n";
        let seen = h2load_output(text).unwrap();
        assert_eq!((seen.requests, seen.p50, seen.per_second), (142_469, 879.0, 71_234.5));
    }
}
