//! What a filter asks of somebody else, through the clusters and connections of its own worker.
//!
//! One attempt, bounded in time and size; it counts and is limited like any other request of its
//! cluster.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tulle_model::cluster::UpstreamProtocol;
use tulle_model::decide::request;
use tulle_model::head::{RequestHead, ResponseHead};
use tulle_model::name::ClusterName;
use tulle_model::route::Priority;

use crate::buffer::BufferPool;
use crate::http::body::{Body, Held, NotHeld};
use crate::http::codec::abort::Abort;
use crate::http::codec::h1::Framing;
use crate::http::sink::{PumpError, Sink, pump};
use crate::http::upstream_stream::{Answer, Arrived, FinalHead, UpstreamStream, open_h1, open_h2};
use crate::store::InVain;
use crate::upstream::cluster::{HttpLease, HttpVersion, UpstreamCluster};
use crate::upstream::endpoint::UpstreamEndpoint;
use crate::upstream::members::PickInput;
use crate::upstream::outlier::Outcome;
use crate::upstream::{ConnectFailure, NoEndpoint, Overflow};
use crate::worker::Worker;

/// Asking others.
#[derive(Clone, Copy, Debug)]
pub struct Callout<'a> {
    worker: &'a Rc<Worker>,
}

/// A question.
#[derive(Debug)]
pub struct Question<'q> {
    /// Who is asked.
    pub cluster: &'q ClusterName,
    /// Its head.
    pub head: &'q RequestHead,
    /// Its body.
    pub body: Bytes,
    /// Longest time until its answer is there.
    pub timeout: Duration,
    /// Most bytes of the answer's body.
    pub limit: u64,
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    /// Its head.
    pub head: ResponseHead,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum CalloutFailure {
    /// The cluster is not configured.
    #[error("the cluster is not known")]
    NoCluster,
    /// Too much is under way to the cluster.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// Nobody can be asked.
    #[error(transparent)]
    NoEndpoint(#[from] NoEndpoint),
    /// Nobody was reached.
    #[error(transparent)]
    NotConnected(#[from] ConnectFailure),
    /// The answer broke.
    #[error("the answer broke")]
    Broken(#[source] Abort),
    /// The answer is larger than it may be.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer was not there in time.
    #[error("no answer in time")]
    TimedOut,
}

impl<'a> Callout<'a> {
    pub(super) fn new(worker: &'a Rc<Worker>) -> Self {
        Self { worker }
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, question: &Question<'_>) -> Result<Reply, CalloutFailure> {
        let cluster = self.cluster(question.cluster).await?;
        let _request = cluster.admit(Priority::Default)?;
        let random = self.worker.random();
        let endpoint = cluster.pick(&PickInput { random, ..PickInput::default() })?;
        let asked = timeout(question.timeout, self.attempt(&cluster, &endpoint, question)).await;
        let asked = asked.unwrap_or(Err(CalloutFailure::TimedOut));
        if let Some(outcome) = outcome(&asked) {
            cluster.report(&endpoint, outcome);
        }
        asked
    }

    async fn cluster(&self, name: &ClusterName) -> Result<Rc<UpstreamCluster>, CalloutFailure> {
        let worker = self.worker;
        let ready =
            worker.store.decide(InVain::Fails, |snapshot| request::cluster(snapshot, name)).await;
        match ready {
            Ok(Ok(_)) => worker.upstreams.cluster(&worker.store.load(), name).present(),
            Ok(Err(_)) | Err(_) => None,
        }
        .ok_or(CalloutFailure::NoCluster)
    }

    async fn attempt(
        &self,
        cluster: &UpstreamCluster,
        endpoint: &UpstreamEndpoint,
        question: &Question<'_>,
    ) -> Result<Reply, CalloutFailure> {
        let version = match cluster.config.protocol {
            UpstreamProtocol::Http2(_) => HttpVersion::H2,
            UpstreamProtocol::Http1 | UpstreamProtocol::Downstream(_) => HttpVersion::H1,
        };
        let lease =
            cluster.acquire_http(endpoint, version, Priority::Default, Instant::now()).await?;
        cluster.report(endpoint, Outcome::Connected);
        let _attempt = cluster.metrics().attempt();
        let pool = &self.worker.buffers;
        match lease {
            HttpLease::H1(mut lease) => {
                let framing = match question.body.len() as u64 {
                    0 => Framing::None,
                    length => Framing::Length(length),
                };
                let stream = open_h1(&mut lease, question.head, framing, pool);
                let (reply, reusable) = converse(stream, question, pool).await?;
                if reusable {
                    lease.release(Instant::now());
                }
                Ok(reply)
            }
            HttpLease::H2(mut lease) => {
                let ended = question.body.is_empty();
                let stream = open_h2(&mut lease, question.head, ended);
                let stream = stream.map_err(CalloutFailure::Broken)?;
                converse(stream, question, pool).await.map(|(reply, _)| reply)
            }
        }
    }
}

/// Sends the question while its answer is awaited; whether the connection may be used again.
async fn converse(
    stream: UpstreamStream<'_>,
    question: &Question<'_>,
    pool: &BufferPool,
) -> Result<(Reply, bool), CalloutFailure> {
    let UpstreamStream { mut sink, mut answer } = stream;
    let mut body = Body::Held(Held::new(question.body.clone()));
    let mut head = ResponseHead::new();
    let last = {
        let mut sending = pin!(send(&mut body, &mut sink));
        let mut sent = false;
        loop {
            tokio::select! {
                biased;
                end = &mut sending, if !sent => {
                    sent = true;
                    end?;
                }
                arrived = answer.next(&mut head) => {
                    match arrived.map_err(CalloutFailure::Broken)? {
                        Arrived::Final(last) => break last,
                        Arrived::Interim => {}
                    }
                }
            }
        }
    };
    let reusable = last.reusable && sink.is_finished();
    pool.give(sink.into_buffer());
    let body = whole(answer, last, question.limit).await?;
    Ok((Reply { head, body }, reusable))
}

async fn send(body: &mut Body<'_>, sink: &mut Sink<'_>) -> Result<(), CalloutFailure> {
    pump(body, sink, |_| ()).await.map_err(|error| match error {
        PumpError::Source(abort) | PumpError::Sink(abort) => CalloutFailure::Broken(abort),
    })
}

async fn whole(answer: Answer<'_>, head: FinalHead, limit: u64) -> Result<Bytes, CalloutFailure> {
    let mut body = answer.into_body(head);
    let held = Held::read(&mut body, limit, || ()).await.map_err(|error| match error {
        NotHeld::TooLarge => CalloutFailure::TooLarge,
        NotHeld::Broken(abort) => CalloutFailure::Broken(abort),
    })?;
    Ok(held.bytes().clone())
}

/// What its endpoint is held to have done.
fn outcome(asked: &Result<Reply, CalloutFailure>) -> Option<Outcome> {
    match asked {
        Ok(reply) => Some(Outcome::Answered(reply.head.status)),
        Err(CalloutFailure::TimedOut) => Some(Outcome::TimedOut),
        Err(CalloutFailure::NotConnected(failed)) if failed.is_overflow() => None,
        Err(CalloutFailure::NotConnected(failed)) if failed.timed_out => Some(Outcome::TimedOut),
        Err(CalloutFailure::NotConnected(_)) => Some(Outcome::ConnectFailed),
        Err(CalloutFailure::Broken(_)) => Some(Outcome::Broke),
        // Nothing is wrong with it.
        Err(
            CalloutFailure::NoCluster
            | CalloutFailure::Overflow(_)
            | CalloutFailure::NoEndpoint(_)
            | CalloutFailure::TooLarge,
        ) => None,
    }
}
