//! The driver: a message on its way through the filters of its request.
//!
//! What a filter waits for, it waits for under the clocks of the stream, and only as long as
//! somebody is there to hear the answer.

use std::future::Future;

use tulle_model::head::grammar::parse_u64;
use tulle_model::head::{Headers, KnownId, RequestHead, ResponseHead};

use super::context::{Attributes, Clock, FilterContext};
use super::{BodyWish, Filters, Stage, Verdict};
use crate::http::attempt::asks_for_tunnel;
use crate::http::body::{Body, Held, NotHeld};
use crate::http::codec::abort::Abort;
use crate::http::context::HttpContext;
use crate::http::exchange::{Exchange, Failure};
use crate::http::failure::{self, BrokenFacts};
use crate::http::filter::callout::Callout;
use crate::http::reply::LocalReply;
use crate::http::responder::Responder;
use crate::http::route::{self, Resolution};
use crate::http::tries::{Clocks, expiry};
use crate::record::Record;

/// What of an exchange the driver works on.
#[derive(Debug)]
pub struct Passage<'a, 'c> {
    /// Its connection.
    pub cx: &'a HttpContext,
    /// The head of the request.
    pub request: &'a mut RequestHead,
    /// The head of the answer.
    pub response: &'a mut ResponseHead,
    /// What becomes of it.
    pub record: &'a mut Record,
    /// The way of the answer.
    pub out: &'a mut Responder<'c>,
    /// How long it may take.
    pub clocks: &'a Clocks,
}

/// What of an exchange changes when its request is taken in.
struct Intake<'a, 'c> {
    body: &'a mut Body<'c>,
    expects_continue: &'a mut bool,
    received: &'a mut bool,
}

/// Passes the request through its filters; gives the route that was chosen last.
///
/// # Errors
/// The answer of a filter, or that the downstream is gone.
pub async fn request(
    x: &mut Exchange<'_>,
    mut resolution: Resolution,
) -> Result<Resolution, Failure> {
    let clocks = Clocks::receiving(x, resolution.plan());
    loop {
        x.record.plan = resolution.plan().cloned();
        let Exchange {
            cx,
            request,
            response,
            body,
            out,
            filters,
            record,
            timer,
            expects_continue,
            received,
            caller: _,
        } = &mut *x;
        let mut passage = Passage { cx, request, response, record, out, clocks: &clocks };
        let intake = Intake { body, expects_continue, received };
        let passed = tokio::select! {
            biased;
            passed = filters.request(&mut passage, intake) => Ok(passed),
            expired = expiry(timer, &clocks) => Err(expired),
        };
        x.record.request_bytes = x.body.received_bytes();
        match passed.map_err(|expired| failure::expired(expired, x.received))?? {
            Verdict::Continue => return Ok(resolution),
            Verdict::Reroute => {
                resolution = route::resolve(x.cx, &x.request).await;
                x.filters.choose(x.cx, resolution.plan());
            }
        }
    }
}

/// Passes an answer of the proxy's own through the filters that it has to pass.
///
/// # Errors
/// The answer of a filter, or that the downstream is gone.
pub async fn reply(x: &mut Exchange<'_>, body: &mut Body<'_>) -> Result<(), Failure> {
    let clocks = Clocks::silence(x);
    let Exchange { cx, request, response, record, out, timer, filters, .. } = &mut *x;
    let mut passage = Passage { cx, request, response, record, out, clocks: &clocks };
    let expired = tokio::select! {
        biased;
        passed = filters.response(&mut passage, body) => return passed,
        expired = expiry(timer, &clocks) => expired,
    };
    failure::expired_midway(x, expired);
    Err(Failure::Abort)
}

impl Filters {
    async fn request(
        &mut self,
        passage: &mut Passage<'_, '_>,
        mut intake: Intake<'_, '_>,
    ) -> Result<Verdict, Failure> {
        while let Some(Stage { active, .. }) = self.stages.get_mut(self.passed) {
            self.outside = self.passed;
            self.passed += 1;
            if !intake.body.is_empty() && !asks_for_tunnel(passage.request) {
                match active.request_body(passage.request) {
                    BodyWish::Pass => {}
                    BodyWish::Buffer { limit } => intake.hold(passage, limit).await?,
                    BodyWish::Transform(by) => {
                        if !by.keeps_length() {
                            passage.request.headers.remove(KnownId::ContentLength);
                        }
                        intake.body.transform(by);
                    }
                }
            }
            let verdict = {
                let (mut context, out) = passage.context(intake.body);
                heard(out, active.request_head(&mut context)).await
            };
            let verdict = verdict.map_err(|abort| passage.record.downstream_broke(&abort))??;
            fit_length(&mut passage.request.headers, intake.body);
            if verdict == Verdict::Reroute {
                return Ok(verdict);
            }
        }
        self.outside = self.stages.len();
        Ok(Verdict::Continue)
    }

    /// Passes an answer through the filters outside whoever gave it, the innermost first.
    ///
    /// # Errors
    /// The answer of a filter in its place, or that the downstream is gone.
    pub async fn response(
        &mut self,
        passage: &mut Passage<'_, '_>,
        body: &mut Body<'_>,
    ) -> Result<(), Failure> {
        while let Some(outside) = self.outside.checked_sub(1) {
            self.outside = outside;
            let Some(Stage { active, .. }) = self.stages.get_mut(outside) else { break };
            if !body.is_empty() {
                match active.response_body(passage.response) {
                    BodyWish::Pass => {}
                    BodyWish::Buffer { limit } => hold_response(passage, body, limit).await?,
                    BodyWish::Transform(by) => {
                        if !by.keeps_length() {
                            passage.response.headers.remove(KnownId::ContentLength);
                        }
                        body.transform(by);
                    }
                }
            }
            let passed = {
                let (mut context, out) = passage.context(body);
                heard(out, active.response_head(&mut context)).await
            };
            passed.map_err(|abort| passage.record.downstream_broke(&abort))??;
            fit_length(&mut passage.response.headers, body);
        }
        Ok(())
    }
}

impl<'c> Passage<'_, 'c> {
    /// What a filter sees of it, and what it does not.
    fn context<'b>(
        &'b mut self,
        body: &'b mut Body<'_>,
    ) -> (FilterContext<'b>, &'b mut Responder<'c>) {
        let context = FilterContext {
            request: self.request,
            response: self.response,
            held: body.held(),
            attributes: Attributes::new(self.cx, self.record),
            callout: Callout::new(&self.cx.worker),
            clock: Clock::default(),
        };
        (context, self.out)
    }
}

impl Intake<'_, '_> {
    /// Takes all of the request in before it goes on.
    async fn hold(&mut self, passage: &mut Passage<'_, '_>, limit: u64) -> Result<(), Failure> {
        let declared = passage.request.headers.first(KnownId::ContentLength).and_then(parse_u64);
        if declared.is_some_and(|declared| declared > limit) {
            return Err(request_too_large().into());
        }
        if std::mem::take(self.expects_continue) {
            // Whoever takes the body says so; the upstream will have it without asking.
            passage.request.headers.remove(KnownId::Expect);
            passage.response.clear();
            passage.response.status = 100;
            let sent = passage.out.interim(passage.response).await;
            passage.response.clear();
            sent.map_err(|abort| passage.record.downstream_broke(&abort))?;
        }
        match Held::read(self.body, limit, || passage.clocks.progress()).await {
            Ok(held) => {
                *self.body = Body::Held(held);
                *self.received = true;
                Ok(())
            }
            Err(NotHeld::TooLarge) => Err(request_too_large().into()),
            Err(NotHeld::Broken(abort)) => Err(failure::downstream(passage.record, &abort)),
        }
    }
}

/// Takes all of the answer in before any of it goes on.
async fn hold_response(
    passage: &mut Passage<'_, '_>,
    body: &mut Body<'_>,
    limit: u64,
) -> Result<(), Failure> {
    let declared = passage.response.headers.first(KnownId::ContentLength).and_then(parse_u64);
    if declared.is_some_and(|declared| declared > limit) {
        return Err(response_too_large().into());
    }
    let held = heard(passage.out, Held::read(body, limit, || passage.clocks.progress())).await;
    match held.map_err(|abort| passage.record.downstream_broke(&abort))? {
        Ok(held) => {
            *body = Body::Held(held);
            Ok(())
        }
        Err(NotHeld::TooLarge) => Err(response_too_large().into()),
        Err(NotHeld::Broken(abort)) => {
            // Nothing of it went on: the caller can be told.
            let attempts = passage.record.attempts;
            let facts = BrokenFacts { touched: true, answered: true, reused: false, attempts };
            Err(failure::broken(&abort, facts).1.into())
        }
    }
}

/// What `work` comes to, or how the downstream broke the stream off meanwhile.
async fn heard<T>(out: &mut Responder<'_>, work: impl Future<Output = T>) -> Result<T, Abort> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        abort = out.reset_by_peer() => Err(abort),
    }
}

/// What is declared of a held body's length is what it has.
fn fit_length(headers: &mut Headers, body: &mut Body<'_>) {
    let Some(held) = body.held() else { return };
    let length = held.bytes().len() as u64;
    let declared = headers.first(KnownId::ContentLength);
    if declared.is_some_and(|declared| parse_u64(declared) != Some(length)) {
        let _ = headers.set_with(KnownId::ContentLength, |out| out.push_u64(length));
    }
}

/// Reference: Envoy `ActiveStreamDecoderFilter::requestDataTooLarge`.
fn request_too_large() -> LocalReply {
    LocalReply::new(413, "request_payload_too_large", "Payload Too Large")
}

/// Reference: Envoy `ActiveStreamEncoderFilter::responseDataTooLarge`.
fn response_too_large() -> LocalReply {
    LocalReply::new(500, "response_payload_too_large", "Internal Server Error")
}
