//! Answers that a route gives: redirects and direct responses.

use std::borrow::Cow;

use tulle_model::decide::rewrite;
use tulle_model::head::{KnownId, RequestHead};

use crate::http::reply::LocalReply;
use crate::http::route::Plan;

/// The redirect of the route for the request.
#[must_use]
pub fn redirect(plan: &Plan, head: &RequestHead) -> LocalReply {
    let Some(redirect) = plan.redirect() else {
        return LocalReply::new(500, "internal_redirect_without_action", "");
    };
    let reply = LocalReply::new(redirect.status, "direct_response", "");
    reply.header(KnownId::Location, rewrite::location(redirect, &plan.route.matches.path, head))
}

/// The answer of the route.
#[must_use]
pub fn direct(plan: &Plan) -> LocalReply {
    let (status, body) = match plan.direct() {
        Some(direct) => (direct.status, direct.body.to_vec()),
        None => (500, Vec::new()),
    };
    let mut reply = LocalReply::new(status, "direct_response", "");
    reply.body = Cow::Owned(body);
    reply
}

/// The same place over TLS.
#[must_use]
pub fn to_tls(head: &RequestHead) -> LocalReply {
    let reply = LocalReply::new(301, "direct_response", "");
    reply.header(KnownId::Location, rewrite::location_over_tls(head))
}
