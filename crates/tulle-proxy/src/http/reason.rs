//! `x-tulle-reason`: inside a mesh an answer of the proxy's own says why, and which object of
//! whose configuration is responsible; and an answer of the upstream's, why it is the last.

use tulle_model::head::HeaderName;

use crate::http::exchange::Exchange;

/// The header.
pub const HEADER: &str = "x-tulle-reason";

/// Writes the header into the answer, unless the proxy stands in Envoy's place.
pub fn tell(x: &mut Exchange<'_>) {
    if !x.cx.worker.in_mesh {
        return;
    }
    let mut value = x.record.details.to_string();
    if let Some(refused) = refused_retry(x) {
        value.push_str("; ");
        value.push_str(&refused);
    }
    if let Some(origin) = x.record.origin().or(x.cx.listener.origin.as_ref()) {
        value.push_str(&format!("; {origin}"));
    }
    if let Some(name) = HeaderName::parse(HEADER) {
        // Details of a failed transport may hold what no header may: the answer goes without.
        let _ = x.response.headers.set(&name, value.as_bytes());
    }
}

/// Adds to an answer of the upstream's why it was not asked for another, if that is so.
pub fn tell_refused_retry(x: &mut Exchange<'_>) {
    if x.record.retry_refused.is_none() || !x.cx.worker.in_mesh {
        return;
    }
    if let (Some(value), Some(name)) = (refused_retry(x), HeaderName::parse(HEADER)) {
        let _ = x.response.headers.append(&name, value.as_bytes());
    }
}

fn refused_retry(x: &Exchange<'_>) -> Option<String> {
    let (limit, cluster) = (x.record.retry_refused?, x.record.cluster.as_ref()?);
    Some(format!("no retry: {limit} of {} reached", cluster.config.name))
}
