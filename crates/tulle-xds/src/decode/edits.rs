//! Edits of headers.

use tulle_model::head::grammar::is_field_value;
use tulle_model::head::{HeaderName, KnownId};
use tulle_model::header_edit::{AppendAction, HeaderAdd, HeaderEdits, Template};

use super::value::{each, enumeration, header_name};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};

/// The edits of requests.
pub fn request(add: Vec<HeaderValueOption>, remove: Vec<String>, at: &At<'_>) -> HeaderEdits {
    HeaderEdits {
        add: each(at, "request_headers_to_add", add, added),
        remove: each(at, "request_headers_to_remove", remove, |name, at| editable(&name, at)),
    }
}

/// The edits of responses.
pub fn response(add: Vec<HeaderValueOption>, remove: Vec<String>, at: &At<'_>) -> HeaderEdits {
    HeaderEdits {
        add: each(at, "response_headers_to_add", add, added),
        remove: each(at, "response_headers_to_remove", remove, |name, at| editable(&name, at)),
    }
}

fn added(message: HeaderValueOption, at: &At<'_>) -> Option<HeaderAdd> {
    fields!(at, message => HeaderValueOption ["envoy.config.core.v3.HeaderValueOption"] {
        used: header, append, append_action, keep_empty_value;
    });
    let action = match (append, enumeration(append_action, at, "append_action")?) {
        (None | Some(true), HeaderAppendAction::AppendIfExistsOrAdd) => {
            AppendAction::AppendIfExistsOrAdd
        }
        (Some(false), HeaderAppendAction::AppendIfExistsOrAdd)
        | (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => {
            AppendAction::OverwriteIfExistsOrAdd
        }
        (None, HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        (None, HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        (Some(_), _) => return at.field("append").fail("leave it out beside `append_action`"),
    };
    let Some(header) = header else {
        return at.field("header").fail("is missing");
    };
    let at = at.field("header");
    fields!(at, header => HeaderValue ["envoy.config.core.v3.HeaderValue"] {
        used: key, value;
        refused: raw_value "use `value`";
    });
    let name = editable(&key, &at.field("key"))?;
    if matches!(name, HeaderName::Known(KnownId::ContentLength | KnownId::TransferEncoding)) {
        let text = format!("`{key}` says how a message is framed; an edit could only break it");
        return at.field("key").fail(text);
    }
    if !is_field_value(value.as_bytes()) {
        return at.field("value").fail("holds a control character, which no header may hold");
    }
    match Template::parse(&value) {
        Ok(value) => Some(HeaderAdd { name, value, action, keep_empty: keep_empty_value }),
        Err(text) => at.field("value").fail(text),
    }
}

/// As in Envoy, neither pseudo headers nor `host` are edited: they are what routing is about.
fn editable(name: &str, at: &At<'_>) -> Option<HeaderName> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return at.fail(format!("`{name}` cannot be edited; rewrite the host or path instead"));
    }
    header_name(name, at)
}
