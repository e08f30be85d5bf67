//! `x-tulle-reason`: inside a mesh an answer of the proxy's own says why, and which object of
//! whose configuration is responsible.

use tulle_model::head::HeaderName;

use crate::http::exchange::Exchange;

/// The header.
pub const HEADER: &str = "x-tulle-reason";

/// Writes the header into the answer, unless the proxy stands in Envoy's place.
pub fn tell(x: &mut Exchange<'_>) {
    if !x.cx.worker.in_mesh {
        return;
    }
    let value = match x.record.origin().or(x.cx.listener.origin.as_ref()) {
        Some(origin) => format!("{}; {origin}", x.record.details),
        None => x.record.details.to_string(),
    };
    if let Some(name) = HeaderName::parse(HEADER) {
        // Details of a failed transport may hold what no header may: the answer goes without.
        let _ = x.response.headers.set(&name, value.as_bytes());
    }
}
