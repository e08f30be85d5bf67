//! Passing the answer on, while the rest of the request may still be on its way.

use std::future::{Future, Ready};
use std::ops::DerefMut;
use std::pin::Pin;

use tulle_model::head::grammar::parse_u64;
use tulle_model::head::{KnownId, Version};

use tulle_model::route::Priority;

use crate::http::attempt::Told;
use crate::http::body::Body;
use crate::http::codec::h1::Framing;
use crate::http::exchange::{Exchange, Failure, begin};
use crate::http::failure::{self, broken_midway, expired_midway};
use crate::http::filter::passage::Passage;
use crate::http::hash::Hashed;
use crate::http::reply::http_status_of;
use crate::http::route::Plan;
use crate::http::sink::{PumpError, Sink, pump};
use crate::http::tries::{Clocks, Expired, Tries, expiry};
use crate::http::{edit, reason};
use crate::timer::Timer;

/// What the request's route says, for all of its attempts.
#[derive(Debug)]
pub struct Route<'r> {
    /// The plan.
    pub plan: &'r Plan,
    /// What the load balancer hashes.
    pub hashed: Hashed<'r>,
    /// Which limits count.
    pub priority: Priority,
}

/// Edits the head of the answer as the route says.
fn edit_answer(x: &mut Exchange<'_>, route: &Route<'_>) {
    let after = x.since_start();
    let took = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    x.record.answered_after = Some(after);
    x.record.status = x.response.status;
    if x.cx.envoy_headers {
        let _ = x.response.headers.set_with(KnownId::XEnvoyUpstreamServiceTime, |out| {
            out.push_u64(took);
        });
    }
    edit::attempt_count(x, route.plan);
    route.hashed.set_cookies(&mut x.response.headers, &x.cx.downstream);
    edit::response(x, route.plan);
    reason::tell_refused_retry(x);
}

/// What the upstream is held to have answered.
fn judged(x: &Exchange<'_>) -> u16 {
    x.record.grpc_status.map_or(x.response.status, http_status_of)
}

/// Passes the answer on to its end.
pub async fn deliver<F>(
    x: &mut Exchange<'_>,
    route: &Route<'_>,
    tries: &Tries,
    mut sending: Option<Pin<&mut F>>,
    (answer, reusable): (&mut Body<'_>, bool),
) -> Told
where
    F: Future<Output = Result<(), PumpError>>,
{
    edit_answer(x, route);
    if x.filters.await_answer()
        && let Err(failure) = filtered(x, tries, &mut sending, answer).await
    {
        return Told::Failed(failure);
    }
    let declared = x.response.headers.first(KnownId::ContentLength).and_then(parse_u64);
    if let Err(failure) = begin(x, answer.framing(declared)) {
        return Told::Failed(failure);
    }
    let status = judged(x);
    let ended = {
        let Exchange { out, record, timer, .. } = &mut *x;
        let Some(sink) = out.sink() else { return Told::Failed(Failure::Abort) };
        let passing = std::pin::pin!(pump(answer, sink, |data| {
            record.response_bytes += data.len() as u64;
            tries.clocks.progress();
        }));
        alongside(passing, &mut sending, timer, &tries.clocks).await
    };
    match ended {
        Ok(Ok(())) => {
            let reusable = reusable && sending.is_none() && answer.is_finished();
            x.record.trailers_came(answer.take_trailers());
            Told::Answered { status, reusable }
        }
        Ok(Err(broken)) => Told::Failed(failed(x, broken)),
        Err(expired) => {
            expired_midway(x, expired);
            Told::Failed(Failure::Abort)
        }
    }
}

/// What follows when a pump broke on the way of the answer.
fn failed(x: &mut Exchange<'_>, broken: PumpError) -> Failure {
    match broken {
        PumpError::Source(abort) => {
            broken_midway(x, &abort);
            Failure::Abort
        }
        PumpError::Sink(abort) => x.record.downstream_broke(&abort),
    }
}

/// Passes the answer through the filters, before anything of it is sent.
async fn filtered<F>(
    x: &mut Exchange<'_>,
    tries: &Tries,
    sending: &mut Option<Pin<&mut F>>,
    answer: &mut Body<'_>,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), PumpError>>,
{
    let Exchange { cx, request, response, record, out, timer, filters, .. } = &mut *x;
    let clocks = &tries.clocks;
    let mut passage = Passage { cx, request, response, record, out, clocks };
    let passing = Box::pin(filters.response(&mut passage, answer));
    let ended = alongside(passing, sending, timer, clocks).await;
    ended.unwrap_or_else(|expired| Err(failure::expired(expired, x.received).into()))
}

/// Drives `work` while the rest of the request is being sent, until a clock runs out.
async fn alongside<W, F>(
    mut work: Pin<impl DerefMut<Target = W>>,
    sending: &mut Option<Pin<&mut F>>,
    timer: &mut Timer,
    clocks: &Clocks,
) -> Result<W::Output, Expired>
where
    W: Future,
    F: Future<Output = Result<(), PumpError>>,
{
    loop {
        tokio::select! {
            biased;
            end = work.as_mut() => return Ok(end),
            end = maybe(sending) => {
                *sending = None;
                if end.is_ok() {
                    clocks.request_sent();
                    clocks.answered();
                }
            }
            expired = expiry(timer, clocks) => return Err(expired),
        }
    }
}

/// The future, if there is one; else never.
async fn maybe<F: Future>(future: &mut Option<Pin<&mut F>>) -> F::Output {
    match future {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Passes the agreement on, then bytes in both directions until both ended. Filters see its head;
/// its bytes are nobody's message.
pub async fn tunnel(
    x: &mut Exchange<'_>,
    route: &Route<'_>,
    tries: &Tries,
    answer: &mut Body<'_>,
    up: &mut Sink<'_>,
) -> Told {
    tries.clocks.tunnelled();
    agree(x);
    edit_answer(x, route);
    let mut none: Option<Pin<&mut Ready<Result<(), PumpError>>>> = None;
    if x.filters.await_answer()
        && let Err(failure) = filtered(x, tries, &mut none, &mut Body::Empty).await
    {
        return Told::Failed(failure);
    }
    if let Err(failure) = begin(x, Framing::Tunnel) {
        return Told::Failed(failure);
    }
    x.body.become_tunnel();
    answer.become_tunnel();
    let status = x.response.status;
    let ended = {
        let Exchange { out, record, timer, body, .. } = &mut *x;
        let Some(down) = out.sink() else { return Told::Failed(Failure::Abort) };
        let both = std::pin::pin!(async {
            // Whichever breaks, both are over.
            let sending = pump(body, up, |data| tries.received(data));
            let passing = pump(answer, down, |data| {
                record.response_bytes += data.len() as u64;
                tries.clocks.progress();
            });
            tokio::try_join!(sending, passing).map(drop)
        });
        alongside(both, &mut none, timer, &tries.clocks).await
    };
    x.record.request_bytes = x.body.received_bytes();
    match ended {
        Ok(Ok(())) => Told::Answered { status, reusable: false },
        Ok(Err(broken)) => Told::Failed(failed(x, broken)),
        Err(expired) => {
            expired_midway(x, expired);
            Told::Failed(Failure::Abort)
        }
    }
}

/// Says the agreement in the downstream's words: 101 in HTTP/1, 200 in HTTP/2 (RFC 8441).
fn agree(x: &mut Exchange<'_>) {
    let Some(protocol) = x.request.protocol() else { return };
    if x.request.version == Version::Http2 {
        x.response.status = 200;
        x.response.headers.remove(KnownId::Upgrade);
    } else {
        x.response.status = 101;
        let _ = x.response.headers.set(KnownId::Upgrade, protocol);
    }
}
