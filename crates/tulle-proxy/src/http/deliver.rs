//! Passing the answer on, while the rest of the request may still be on its way.

use std::future::Future;
use std::pin::Pin;

use tokio::time::Instant;
use tulle_model::head::grammar::parse_u64;
use tulle_model::head::{KnownId, Version};

use tulle_model::route::Priority;

use crate::http::attempt::Told;
use crate::http::body::Body;
use crate::http::codec::h1::Framing;
use crate::http::edit;
use crate::http::exchange::{Exchange, Failure, begin};
use crate::http::failure::{broken_midway, expired_midway};
use crate::http::filter::Filters;
use crate::http::route::Plan;
use crate::http::sink::{PumpError, Sink, pump};
use crate::http::tries::Tries;

/// What the request's route says, for all of its attempts.
#[derive(Debug)]
pub struct Route<'r> {
    /// The plan.
    pub plan: &'r Plan,
    /// The filters.
    pub filters: &'r mut Filters,
    /// What the load balancer hashes.
    pub hash: Option<u64>,
    /// Which limits count.
    pub priority: Priority,
}

/// Edits the head of the answer and queues it.
fn begin_answer(
    x: &mut Exchange<'_>,
    route: &mut Route<'_>,
    framing: Framing,
) -> Result<(), Failure> {
    let after = x.record.started.elapsed();
    let took = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    x.record.answered_after = Some(after);
    x.record.status = x.response.status;
    if x.cx.envoy_headers {
        let _ = x.response.headers.set_with(KnownId::XEnvoyUpstreamServiceTime, |out| {
            out.push_u64(took);
        });
    }
    if route.plan.virtual_host.include_attempt_count_in_response {
        let attempts = u64::from(x.record.attempts);
        let _ = x.response.headers.set_with(KnownId::XEnvoyAttemptCount, |out| {
            out.push_u64(attempts);
        });
    }
    edit::response(x, route.plan);
    route.filters.response_head(&mut x.response);
    begin(x, framing)
}

/// Passes the answer on to its end.
pub async fn deliver<F>(
    x: &mut Exchange<'_>,
    route: &mut Route<'_>,
    tries: &Tries,
    mut sending: Option<Pin<&mut F>>,
    (answer, reusable): (&mut Body<'_>, bool),
) -> Told
where
    F: Future<Output = Result<(), PumpError>>,
{
    let declared = x.response.headers.first(KnownId::ContentLength).and_then(parse_u64);
    if let Err(failure) = begin_answer(x, route, answer.framing(declared)) {
        return Told::Failed(failure);
    }
    let status = x.response.status;
    let ended = {
        let Exchange { out, record, timer, .. } = &mut *x;
        let Some(sink) = out.sink() else { return Told::Failed(Failure::Abort) };
        let mut passing = std::pin::pin!(pump(answer, sink, |data| {
            record.response_bytes += data.len() as u64;
            tries.clocks.progress();
        }));
        loop {
            tokio::select! {
                biased;
                end = &mut passing => break Ok(end),
                end = maybe(&mut sending) => {
                    sending = None;
                    if end.is_ok() {
                        tries.clocks.request_sent();
                        tries.clocks.answered();
                    }
                }
                () = timer.wait(tries.clocks.next()) => {
                    if let Some(expired) = tries.clocks.expired(Instant::now()) {
                        break Err(expired);
                    }
                }
            }
        }
    };
    match ended {
        Ok(Ok(())) => {
            let reusable = reusable && sending.is_none() && answer.is_finished();
            Told::Answered { status, reusable }
        }
        Ok(Err(PumpError::Source(abort))) => {
            broken_midway(x, &abort);
            Told::Failed(Failure::Abort)
        }
        Ok(Err(PumpError::Sink(_))) => Told::Failed(x.record.downstream_gone()),
        Err(expired) => {
            expired_midway(x, expired);
            Told::Failed(Failure::Abort)
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

/// Passes the agreement on, then bytes in both directions until both ended.
pub async fn tunnel(
    x: &mut Exchange<'_>,
    route: &mut Route<'_>,
    tries: &Tries,
    answer: &mut Body<'_>,
    up: &mut Sink<'_>,
) -> Told {
    tries.clocks.tunnelled();
    agree(x);
    if let Err(failure) = begin_answer(x, route, Framing::Tunnel) {
        return Told::Failed(failure);
    }
    x.body.become_tunnel();
    answer.become_tunnel();
    let status = x.response.status;
    let ended = {
        let Exchange { out, record, timer, body, .. } = &mut *x;
        let Some(down) = out.sink() else { return Told::Failed(Failure::Abort) };
        let mut both = std::pin::pin!(async {
            // Whichever breaks, both are over.
            let sending = pump(body, up, |data| tries.received(data));
            let passing = pump(answer, down, |data| {
                record.response_bytes += data.len() as u64;
                tries.clocks.progress();
            });
            tokio::try_join!(sending, passing).map(drop)
        });
        loop {
            tokio::select! {
                biased;
                end = &mut both => break Ok(end),
                () = timer.wait(tries.clocks.next()) => {
                    if let Some(expired) = tries.clocks.expired(Instant::now()) {
                        break Err(expired);
                    }
                }
            }
        }
    };
    x.record.request_bytes = tries.received_bytes.get();
    match ended {
        Ok(Ok(())) => Told::Answered { status, reusable: false },
        Ok(Err(PumpError::Source(abort))) => {
            broken_midway(x, &abort);
            Told::Failed(Failure::Abort)
        }
        Ok(Err(PumpError::Sink(_))) => Told::Failed(x.record.downstream_gone()),
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
