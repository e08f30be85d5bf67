//! The path as everything after this sees it: matched, authorised and sent are the same bytes.

use tulle_model::decide::path::{Path, normalize};
use tulle_model::flag::ResponseFlag;
use tulle_model::head::{KnownId, RequestHead, Version};
use tulle_model::http::StripPort;

use crate::http::context::HttpContext;
use crate::http::reply::LocalReply;

/// Normalises the path and authority of `head` as the connection manager says.
///
/// # Errors
/// The answer for a path that cannot be normalised or must not be.
pub fn request(head: &mut RequestHead, cx: &HttpContext) -> Result<(), LocalReply> {
    default_host(head, cx)?;
    strip_port(head, cx);
    match normalize(head.path(), cx.manager.path) {
        Path::Same => Ok(()),
        Path::Changed(path) => head.set_path(&path).map_err(|_| bad_path()),
        Path::Redirect(path) => {
            let reply = LocalReply::new(307, "path_normalization_failed", "");
            let location = String::from_utf8_lossy(&path).into_owned();
            Err(reply.header(KnownId::Location, location).closing())
        }
        Path::Refused => Err(bad_path()),
    }
}

/// HTTP/1.0 callers need not say where they want to.
fn default_host(head: &mut RequestHead, cx: &HttpContext) -> Result<(), LocalReply> {
    if head.version != Version::Http10 || !head.authority().is_empty() {
        return Ok(());
    }
    let host = &cx.manager.http1.default_host_for_http_10;
    if host.is_empty() || head.set_authority(host.as_bytes()).is_err() {
        return Err(LocalReply::new(400, "missing_host_header", "")
            .flagged(ResponseFlag::DownstreamProtocolError)
            .closing());
    }
    Ok(())
}

fn bad_path() -> LocalReply {
    LocalReply::new(400, "path_normalization_failed", "")
        .flagged(ResponseFlag::DownstreamProtocolError)
        .closing()
}

fn strip_port(head: &mut RequestHead, cx: &HttpContext) {
    if cx.manager.strip_port == StripPort::Keep {
        return;
    }
    let Ok(authority) = head.canonical_authority() else { return };
    let Some(port) = authority.port else { return };
    if cx.manager.strip_port == StripPort::Matching && port != cx.downstream.local.port() {
        return;
    }
    let host = String::from_utf8_lossy(head.authority());
    let host = tulle_model::decide::route::without_port(&host).to_owned();
    // A part of a valid authority is a valid value.
    let _ = head.set_authority(host.as_bytes());
}
