//! Origins: where in which file the object and field stand that made something so.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tulle_config::{Kind, ObjectId, SourceMap};
use tulle_model::origin::Origin;

use super::{Failure, Views};

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// `Kind namespace/name [field]`, as dumps, logs and records write it.
    origin: String,
}

/// Where it stands.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Place {
    file: String,
    line: u32,
    column: u32,
}

pub(super) async fn origin(
    State(views): State<Views>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Place>, Failure> {
    let Query(wanted) = wanted?;
    let origin = Origin::parse(&wanted.origin).ok_or_else(|| {
        Failure::new(StatusCode::BAD_REQUEST, "an origin is written `Kind namespace/name field`")
    })?;
    let configuration = Arc::clone(&views.configuration.borrow());
    let place = find(&configuration.sources, &origin);
    let unknown = || Failure::new(StatusCode::NOT_FOUND, format!("no file says {origin}"));
    place.map(Json).ok_or_else(unknown)
}

fn find(sources: &SourceMap, origin: &Origin) -> Option<Place> {
    let kind = Kind::ALL.iter().find(|kind| kind.as_str() == &*origin.kind)?;
    let id = ObjectId::new(*kind, &origin.namespace, &origin.name);
    let place = sources.place(&id, &origin.field)?;
    Some(Place { file: place.file.to_string(), line: place.at.line, column: place.at.column })
}
