//! Explanations: what a proxy would do with a call in the world that is published.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use tulle_config::explain::{Question, Report, client_of, explain};

use super::{Failure, Views};

/// What is asked, as pairs: `to`, `method`, `http2` and any number of `header`.
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) async fn explained(
    State(views): State<Views>,
    Path((namespace, name)): Path<(String, String)>,
    pairs: Pairs,
) -> Result<Json<Report>, Failure> {
    let Query(pairs) = pairs?;
    let question = question(pairs)?;
    let world = views.publisher.world();
    let from = views.status.client(&namespace, &name);
    let from = from.unwrap_or_else(|| client_of(&world, &namespace, &name));
    let call = question.call(from).map_err(|error| bad(&error))?;
    let sources = views.configuration.borrow().clone();
    // Off the event loop: how long it takes is up to the configuration.
    let told = tokio::task::spawn_blocking(move || {
        explain(&world, &call).report(&Arc::clone(&sources).sources)
    });
    let failed = |error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    told.await.map(Json).map_err(failed)
}

fn question(pairs: Vec<(String, String)>) -> Result<Question, Failure> {
    let mut question = Question::default();
    for (key, value) in pairs {
        match &*key {
            "to" => question.to = value,
            "method" => question.method = value,
            "http2" => question.http2 = value == "true",
            "header" => {
                let wrong = || bad(&format!("{value:?} is no header; write NAME: VALUE"));
                let (name, value) = value.split_once(':').ok_or_else(wrong)?;
                question.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            _ => return Err(bad(&format!("{key:?} is not asked about; use to, method, header"))),
        }
    }
    Ok(question)
}

fn bad(error: &dyn ToString) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, error.to_string())
}
