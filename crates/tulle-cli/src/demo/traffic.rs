//! The client of the demonstration: an open-loop load generator over kept connections.
//!
//! Requests begin at their time whether or not earlier ones have ended, as users do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// A request that takes longer has failed.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// How long after its limit a request has surely told that it failed.
const GRACE: Duration = Duration::from_secs(1);
/// Every so many requests one is a POST.
const POST_EVERY: u64 = 100;
/// Every so many requests one has a connection of its own.
const FRESH_EVERY: u64 = 20;
/// Requests under way at most: on a machine that is too slow, what is due beyond them waits.
const UNDER_WAY_LIMIT: u64 = 100;
/// Clients that find out what the mesh carries here.
const PROBES: usize = 16;
/// How long they try before it counts: connections are made and programs get warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long it counts, a second.
const PROBE_TIME: Duration = Duration::from_secs(1);
/// Of what the mesh carries so much is asked of it, in percent…
const USED_PERCENT: u64 = 50;
/// …but never more, in requests a second.
const MOST: u64 = 400;

/// What the gateway knows the shop by.
pub const HOST: &str = "shop.example";

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Why a proxy gave it, if one did and says so (`x-tulle-reason`).
    pub reason: String,
    /// Its body.
    pub body: Bytes,
}

/// One GET on a connection of its own.
pub async fn get(
    to: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Answer> {
    let mut request = Request::builder().uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::default())?;
    in_time(async { send(&mut connect(to).await?, request).await }).await
}

/// Everything that a request needs, a connection included, within its limit.
async fn in_time<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(REQUEST_LIMIT, asked).await.context("no answer in time")?
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        // Its end shows in the next request.
        let _ = connection.await;
    });
    Ok(sender)
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer> {
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let reason = response.headers().get("x-tulle-reason").and_then(|text| text.to_str().ok());
    let reason = reason.unwrap_or_default().to_owned();
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, reason, body })
}

/// What came of many requests.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that were answered with a 2xx.
    pub good: u64,
    /// Requests that were not, by what happened.
    pub bad: BTreeMap<String, u64>,
    /// POSTs among them.
    pub bad_posts: u64,
    /// POSTs.
    pub posts: u64,
    /// The numbers of those that were answered with a 2xx, in a run.
    pub answered_posts: Vec<u64>,
    /// Answers by the instance that gave them, whatever its depth in the call tree.
    pub by_instance: BTreeMap<String, u64>,
    /// Answers of payment by version.
    pub payment: BTreeMap<String, u64>,
}

impl Counts {
    /// Requests.
    pub fn total(&self) -> u64 {
        self.good + self.failures()
    }

    /// Both together.
    pub fn with(mut self, other: Self) -> Self {
        self.good += other.good;
        self.bad_posts += other.bad_posts;
        self.posts += other.posts;
        self.answered_posts.extend(other.answered_posts);
        let add = |to: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>| {
            for (name, count) in from {
                *to.entry(name).or_default() += count;
            }
        };
        add(&mut self.bad, other.bad);
        add(&mut self.by_instance, other.by_instance);
        add(&mut self.payment, other.payment);
        self
    }

    /// Requests that failed.
    pub fn failures(&self) -> u64 {
        self.bad.values().sum()
    }

    /// What failed, in words.
    pub fn failed(&self) -> String {
        let total = self.total();
        if self.failures() == 0 {
            return format!("none of {total} requests failed");
        }
        let bad: Vec<String> =
            self.bad.iter().map(|(why, count)| format!("{count} × {why}")).collect();
        format!("{} of {total} requests failed: {}", self.failures(), bad.join(", "))
    }

    /// Counts an answer; `post` is the number of a POST.
    fn note(&mut self, post: Option<u64>, answer: Result<Answer>) {
        let is_post = post.is_some();
        self.posts += u64::from(is_post);
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                self.good += 1;
                self.answered_posts.extend(post);
                if let Ok(value) = serde_json::from_slice(&answer.body) {
                    self.walk(&value);
                }
            }
            Ok(answer) => {
                let Answer { status, reason, body } = answer;
                self.fail(is_post, format!("status {status} {reason} {}", cause(&body)));
            }
            Err(error) => self.fail(is_post, format!("{error:#}")),
        }
    }

    fn fail(&mut self, is_post: bool, why: String) {
        self.bad_posts += u64::from(is_post);
        let method = if is_post { "POST" } else { "GET" };
        *self.bad.entry(format!("{method}: {why}")).or_default() += 1;
    }

    /// Counts who answered, from the answer down to those that were called for it.
    fn walk(&mut self, answer: &Value) {
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
        *self.by_instance.entry(text("instance").to_owned()).or_default() += 1;
        if text("service") == "payment" {
            *self.payment.entry(text("version").to_owned()).or_default() += 1;
        }
        let calls = answer.get("calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            if let Some(answer) = call.get("answer") {
                self.walk(answer);
            }
        }
    }
}

/// The innermost failure that an answer tells of, or its beginning.
fn cause(body: &[u8]) -> String {
    let mut cause = String::from_utf8_lossy(body).chars().take(160).collect();
    let mut answer: Option<Value> = serde_json::from_slice(body).ok();
    while let Some(call) = answer.as_ref().and_then(failed_call) {
        let error = call.get("error").and_then(Value::as_str).unwrap_or_default();
        cause = format!("{} from {}: {error}", call["status"], call["url"]);
        answer = call.get("answer").cloned();
        if let Some(Value::String(text)) = &answer {
            cause.push_str(text);
        }
    }
    cause
}

fn failed_call(answer: &Value) -> Option<Value> {
    let calls = answer.get("calls")?.as_array()?;
    let failed =
        |call: &&Value| !call["status"].as_u64().is_some_and(|status| (200..500).contains(&status));
    calls.iter().find(failed).cloned()
}

/// How many requests a second this machine carries with ease.
///
/// # Errors
/// A request fails.
pub async fn easy_rate(to: SocketAddr) -> Result<u32> {
    let from = Instant::now() + WARM_UP;
    let until = from + PROBE_TIME;
    let probe = |_| {
        tokio::task::spawn_local(async move {
            let (mut sender, mut count) = (in_time(connect(to)).await?, 0u64);
            while Instant::now() < until {
                let request = Request::builder().uri("/").header("host", HOST);
                in_time(send(&mut sender, request.body(Full::default())?)).await?;
                count += u64::from(Instant::now() > from);
            }
            anyhow::Ok(count)
        })
    };
    let probes: Vec<_> = (0..PROBES).map(probe).collect();
    let mut count = 0;
    for probe in probes {
        count += probe.await??;
    }
    Ok(u32::try_from((count * USED_PERCENT / 100).clamp(1, MOST)).unwrap_or(1))
}

/// A load generator at work.
#[derive(Debug)]
pub struct Load {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    headers: Vec<(&'static str, String)>,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    counts: RefCell<Counts>,
    under_way: Cell<u64>,
    connections: Cell<u64>,
    stop: Cell<bool>,
    posts: Cell<u64>,
    run: u32,
}

impl Load {
    /// Begins to send `rate` requests a second to the gateway at `to`; `run` marks its POSTs.
    pub fn start(to: SocketAddr, rate: u32, run: u32, headers: &[(&'static str, &str)]) -> Self {
        let shared = Rc::new(Shared {
            to,
            headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            idle: RefCell::default(),
            counts: RefCell::default(),
            under_way: Cell::new(0),
            connections: Cell::new(0),
            stop: Cell::new(false),
            posts: Cell::new(0),
            run,
        });
        let task = tokio::task::spawn_local(generate(Rc::clone(&shared), rate.max(1)));
        Self { shared, task }
    }

    /// Requests answered or failed so far.
    pub fn done(&self) -> u64 {
        self.shared.counts.borrow().total()
    }

    /// Connections opened so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.get()
    }

    /// Answers of payment so far.
    pub fn payments(&self) -> u64 {
        self.shared.counts.borrow().payment.values().sum()
    }

    /// How often `instance` answered so far.
    pub fn answers_of(&self, instance: &str) -> u64 {
        self.shared.counts.borrow().by_instance.get(instance).copied().unwrap_or(0)
    }

    /// Stops, waits for what is under way, and tells what came of it.
    pub async fn stop(self) -> Counts {
        self.shared.stop.set(true);
        let _ = self.task.await;
        let deadline = Instant::now() + REQUEST_LIMIT + GRACE;
        while self.shared.under_way.get() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut counts = std::mem::take(&mut *self.shared.counts.borrow_mut());
        // Whoever is still under way has no answer: it does not go missing from the sum.
        for _ in 0..self.shared.under_way.get() {
            counts.fail(false, "still under way at the end".to_owned());
        }
        counts
    }
}

/// What marks the POST with this number of a run.
pub fn post_mark(run: u32, number: u64) -> String {
    format!("post-{run:03}-{number:06}")
}

async fn generate(shared: Rc<Shared>, rate: u32) {
    let interval = Duration::from_secs(1) / rate;
    let mut next = Instant::now();
    let mut number = 0;
    while !shared.stop.get() {
        sleep_until(next).await;
        if shared.under_way.get() >= UNDER_WAY_LIMIT {
            next = Instant::now() + interval;
            continue;
        }
        next += interval;
        number += 1;
        shared.under_way.set(shared.under_way.get() + 1);
        tokio::task::spawn_local(one(Rc::clone(&shared), number));
    }
}

async fn one(shared: Rc<Shared>, number: u64) {
    let post = number.is_multiple_of(POST_EVERY).then(|| {
        shared.posts.set(shared.posts.get() + 1);
        shared.posts.get()
    });
    let is_fresh = number % FRESH_EVERY == FRESH_EVERY / 2;
    let answer = in_time(request(&shared, post, is_fresh)).await;
    shared.counts.borrow_mut().note(post, answer);
    shared.under_way.set(shared.under_way.get() - 1);
}

async fn request(shared: &Shared, post: Option<u64>, is_fresh: bool) -> Result<Answer> {
    let kept = shared.idle.borrow_mut().pop_if(|_| !is_fresh);
    let mut sender = match kept.filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => {
            shared.connections.set(shared.connections.get() + 1);
            connect(shared.to).await?
        }
    };
    sender.ready().await?;
    let mut request = Request::builder().uri("/").header("host", HOST);
    for (name, value) in &shared.headers {
        request = request.header(*name, value);
    }
    let body = match post {
        Some(number) => {
            let mark = post_mark(shared.run, number);
            request = request.method(Method::POST).header("x-post-mark", mark);
            Full::from("an order")
        }
        None => Full::default(),
    };
    let answer = send(&mut sender, request.body(body)?).await?;
    if sender.is_ready() && !is_fresh {
        shared.idle.borrow_mut().push(sender);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
