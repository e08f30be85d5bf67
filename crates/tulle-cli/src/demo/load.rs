//! An open-loop load generator: requests leave when they are due, whether or not earlier ones
//! have been answered, and latency counts from when they were due.
//!
//! Every second one JSON line says what was answered in it; the last line sums up. What counts as
//! a failure is in [`report::Outcome`].

use std::cell::Cell;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use lane::{Lane, Request};
use report::{Outcome, Recorder};

mod histogram;
mod idle;
mod lane;
mod report;
mod streams;
mod target;

/// Requests under way at most; one that is due beyond them counts as a failure of its own.
const UNDER_WAY_LIMIT: usize = 20_000;
/// How long after the last request answers are waited for, beyond the request's own timeout.
const GRACE: Duration = Duration::from_millis(200);

/// What is sent where, how often and for how long.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example: tulle demo-load --target http://order:9090/ --connect 127.0.0.1:8080 \
                  --rate 200 --duration 10s --tally x-app-version"
)]
pub struct Settings {
    /// The URL requested (`http://`), or the address for TCP (`tcp://`).
    #[arg(long)]
    pub target: target::Target,
    /// Where connections go, if not where the target's host resolves.
    #[arg(long)]
    pub connect: Option<SocketAddr>,
    /// Requests per second.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Instead of a rate: so many callers, each of which begins a request when its last one ended.
    #[arg(long, default_value_t = 0)]
    pub closed: usize,
    /// How long requests are sent.
    #[arg(long, default_value = "10s", value_parser = crate::duration::parse)]
    pub duration: Duration,
    /// What is spoken.
    #[arg(long, value_enum, default_value = "http1")]
    pub protocol: Protocol,
    /// How long one request may take.
    #[arg(long, default_value = "10s", value_parser = crate::duration::parse)]
    pub timeout: Duration,
    /// Further header lines, `name: value`.
    #[arg(short = 'H', long = "header")]
    pub headers: Vec<String>,
    /// One in so many requests is a POST with a token of its own; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub post_every: u64,
    /// One in so many requests opens a new connection, which takes the place of the idle one that
    /// has been open longest; 0 for none. One that was idle for three seconds is closed anyway.
    #[arg(long, default_value_t = 0)]
    pub fresh_every: u64,
    /// Connections that HTTP/2 requests share.
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// Long streams held besides the requests (gRPC and TCP), each one talking every second.
    #[arg(long, default_value_t = 0)]
    pub streams: usize,
    /// A response header whose values are counted.
    #[arg(long)]
    pub tally: Option<String>,
}

/// What is spoken with the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1, one request at a time per connection.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC: unary calls of 32 bytes, expected back.
    Grpc,
    /// 32 bytes over TCP, expected back.
    Tcp,
}

/// Sends everything and prints the report; 1 if anything failed.
///
/// # Errors
/// When a header line is none.
pub fn run(settings: Settings) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failures = LocalSet::new().block_on(&runtime, generate(settings))?;
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn generate(settings: Settings) -> Result<u64> {
    let started = Instant::now();
    let recorder = Rc::new(Recorder::new(started));
    let lane = Rc::new(Lane::new(&settings)?);
    let printing = tokio::task::spawn_local(print_seconds(Rc::clone(&recorder)));
    let span = streams::Span { time: settings.duration, limit: settings.timeout };
    for number in 0..settings.streams {
        let (lane, recorder) = (Rc::clone(&lane), Rc::clone(&recorder));
        let guard = recorder.begin();
        recorder.sent();
        tokio::task::spawn_local(async move {
            streams::hold(&lane, &recorder, number, span).await;
            drop(guard);
        });
    }
    if settings.closed > 0 {
        in_turns(&settings, &lane, &recorder, started).await;
    } else {
        at_rate(&settings, &lane, &recorder, started).await;
    }
    // A stream ends by itself within a period of its last echo, and begins as late.
    let of_streams = if settings.streams > 0 { 2 * streams::PERIOD } else { Duration::ZERO };
    let last = Instant::now() + settings.timeout + of_streams + GRACE;
    while recorder.under_way() > 0 && Instant::now() < last {
        sleep_until(Instant::now() + Duration::from_millis(10)).await;
    }
    printing.abort();
    recorder.close();
    println!("{}", recorder.summary());
    Ok(recorder.failures())
}

/// Open loop: each request begins when it is due, whatever became of those before it.
async fn at_rate(settings: &Settings, lane: &Rc<Lane>, recorder: &Rc<Recorder>, started: Instant) {
    let gap = Duration::from_secs_f64(1.0 / settings.rate.max(0.001));
    for number in 0u64.. {
        let due = started + gap.mul_f64(number as f64);
        if due >= started + settings.duration {
            return;
        }
        sleep_until(due).await;
        recorder.sent();
        if recorder.under_way() >= UNDER_WAY_LIMIT {
            recorder.failed(Outcome::NotSent, "too many requests under way");
            continue;
        }
        let (lane, recorder, limit) = (Rc::clone(lane), Rc::clone(recorder), settings.timeout);
        let request = Request::numbered(number, settings, due);
        let guard = recorder.begin();
        tokio::task::spawn_local(async move {
            exchange(&lane, &recorder, &request, limit).await;
            drop(guard);
        });
    }
}

/// Closed loop: as much as `closed` callers get through.
async fn in_turns(settings: &Settings, lane: &Rc<Lane>, recorder: &Rc<Recorder>, started: Instant) {
    let numbers = Rc::new(Cell::new(0u64));
    let callers: Vec<_> = (0..settings.closed)
        .map(|_| {
            let (lane, recorder) = (Rc::clone(lane), Rc::clone(recorder));
            let (numbers, settings) = (Rc::clone(&numbers), settings.clone());
            tokio::task::spawn_local(async move {
                while started.elapsed() < settings.duration {
                    let number = numbers.replace(numbers.get() + 1);
                    recorder.sent();
                    let request = Request::numbered(number, &settings, Instant::now());
                    exchange(&lane, &recorder, &request, settings.timeout).await;
                }
            })
        })
        .collect();
    for caller in callers {
        // A caller that panicked has left a request without an outcome, which the counts show.
        let _ = caller.await;
    }
}

async fn exchange(lane: &Lane, recorder: &Recorder, request: &Request, limit: Duration) {
    match tokio::time::timeout(limit, lane.exchange(request)).await {
        Ok(Ok(tally)) => recorder.answered(request.due.elapsed(), tally.as_deref()),
        Ok(Err(failure)) => {
            recorder.failed(failure.outcome, &format!("{}; {}", request.id, failure.detail));
        }
        Err(_) => {
            let detail = format!("{}; no answer after {limit:?}", request.id);
            recorder.failed(Outcome::Timeout, &detail);
        }
    }
}

async fn print_seconds(recorder: Rc<Recorder>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        println!("{}", recorder.take_second());
    }
}
