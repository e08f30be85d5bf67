//! The description of the API, for tools.

use axum::http::header;
use axum::response::IntoResponse;

/// OpenAPI 3.1 in JSON; a test checks that every path in it is served.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

pub(super) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}
