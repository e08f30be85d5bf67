//! Fields that concern one connection only and never travel further (RFC 9110 §7.6.1).
//!
//! What they say is turned into values (keep the connection, switch protocols) and the fields are
//! removed. A peer may name further fields in `Connection`, but not those on which this mesh or
//! the application behind it relies: that is how a client would have a proxy drop the identity or
//! the trace that another one added.

use tulle_model::head::grammar::is_token;
use tulle_model::head::{
    Headers, KnownId, KnownSet, RequestHead, ResponseHead, Version, tokens_of,
};

use super::{Framing, Violation};

/// Most options in the `Connection` fields of one message.
pub const MAX_CONNECTION_OPTIONS: usize = 32;

/// Names with these beginnings cannot be nominated.
const PROTECTED_PREFIXES: [&[u8]; 3] = [b"x-forwarded-", b"x-envoy-", b"x-tulle-"];

/// What concerns the connection, whatever it says.
pub(super) const OF_CONNECTION: KnownSet = KnownSet::of(&[
    KnownId::Connection,
    KnownId::KeepAlive,
    KnownId::ProxyConnection,
    KnownId::Http2Settings,
    KnownId::TransferEncoding,
]);

/// What the `Connection` fields say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Some other field is named.
    nominates: bool,
}

/// Removes what concerns the downstream connection from a request and returns whether the
/// connection can be used again after it.
///
/// An upgrade stays visible ([`RequestHead::protocol`] and its `Upgrade` field) if it is one
/// protocol, in HTTP/1.1, without a body, and not `h2c`; else it is as if it had not been offered,
/// which is every server's right (RFC 9110 §7.8).
///
/// # Errors
/// [`Violation::ConnectionOption`].
pub fn strip_request(head: &mut RequestHead, framing: Framing) -> Result<bool, Violation> {
    let options = connection_options(&head.headers, is_protected)?;
    let is_reusable = is_reusable(&head.headers, head.version, options);
    let can_upgrade = options.upgrade && head.version == Version::Http11 && framing.is_empty();
    if can_upgrade && offers_one_protocol(&head.headers) {
        if let Some(span) = head.headers.span_of(KnownId::Upgrade) {
            head.set_protocol_span(span);
        }
    } else {
        head.headers.remove(KnownId::Upgrade);
    }
    reduce_te(&mut head.headers)?;
    strip_common(&mut head.headers, options);
    Ok(is_reusable)
}

/// Removes what concerns the upstream connection from a response and returns whether the
/// connection can be used again after it. An upstream may nominate any field of its response but
/// those that frame it.
///
/// # Errors
/// [`Violation::ConnectionOption`].
pub fn strip_response(head: &mut ResponseHead, framing: Framing) -> Result<bool, Violation> {
    let options = connection_options(&head.headers, |id, _| is_framing(id))?;
    let is_reusable = is_reusable(&head.headers, head.version, options)
        && !matches!(framing, Framing::UntilClose | Framing::Tunnel);
    if head.status != 101 {
        head.headers.remove(KnownId::Upgrade);
    }
    head.headers.remove(KnownId::Te);
    strip_common(&mut head.headers, options);
    Ok(is_reusable)
}

fn strip_common(headers: &mut Headers, options: Options) {
    if options.nominates {
        headers.remove_listed(KnownId::Connection);
    }
    headers.remove_all(OF_CONNECTION);
}

/// Only `trailers` is passed on; transfer codings end at this hop.
fn reduce_te(headers: &mut Headers) -> Result<(), Violation> {
    if !headers.contains(KnownId::Te) {
        return Ok(());
    }
    if headers.contains_token(KnownId::Te, b"trailers") {
        headers.set(KnownId::Te, b"trailers")?;
    } else {
        headers.remove(KnownId::Te);
    }
    Ok(())
}

/// RFC 9112 §9.3.
fn is_reusable(headers: &Headers, version: Version, options: Options) -> bool {
    if options.close || headers.contains_token(KnownId::ProxyConnection, b"close") {
        return false;
    }
    version != Version::Http10 || options.keep_alive
}

fn offers_one_protocol(headers: &Headers) -> bool {
    match headers.single(KnownId::Upgrade) {
        Ok(Some(value)) => {
            let mut offers = tokens_of(value);
            let is_one = offers.next() == Some(value) && offers.next().is_none();
            is_one && is_protocol(value) && !value.eq_ignore_ascii_case(b"h2c")
        }
        _ => false,
    }
}

/// `protocol-name ["/" protocol-version]`.
fn is_protocol(value: &[u8]) -> bool {
    let mut parts = value.splitn(2, |&byte| byte == b'/');
    parts.all(is_token)
}

fn connection_options(
    headers: &Headers,
    is_protected: fn(Option<KnownId>, &[u8]) -> bool,
) -> Result<Options, Violation> {
    let mut options = Options::default();
    let mut count = 0;
    for option in headers.tokens(KnownId::Connection) {
        count += 1;
        if count > MAX_CONNECTION_OPTIONS || !is_token(option) {
            return Err(Violation::ConnectionOption);
        }
        match KnownId::of(option) {
            _ if option.eq_ignore_ascii_case(b"close") => options.close = true,
            Some(KnownId::KeepAlive) => options.keep_alive = true,
            Some(KnownId::Upgrade) => options.upgrade = true,
            // Handled by name whether nominated or not.
            Some(KnownId::Te | KnownId::Http2Settings | KnownId::ProxyConnection) => {}
            id if is_protected(id, option) => return Err(Violation::ConnectionOption),
            _ => options.nominates = true,
        }
    }
    Ok(options)
}

fn is_framing(id: Option<KnownId>) -> bool {
    matches!(id, Some(KnownId::ContentLength | KnownId::TransferEncoding))
}

fn is_protected(id: Option<KnownId>, name: &[u8]) -> bool {
    let is_protected_id = matches!(
        id,
        Some(
            KnownId::Host
                | KnownId::XRequestId
                | KnownId::TraceParent
                | KnownId::TraceState
                | KnownId::Cookie
                | KnownId::Authorization
        )
    );
    is_framing(id)
        || is_protected_id
        || PROTECTED_PREFIXES.iter().any(|prefix| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        })
}
