//! Edits of headers.

use tulle_model::header_edit::{AppendAction, HeaderAdd, HeaderEdits};

use crate::proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};

/// What is added, and what is removed.
pub fn edits(edits: &HeaderEdits) -> (Vec<HeaderValueOption>, Vec<String>) {
    let HeaderEdits { add, remove } = edits;
    (add.iter().map(added).collect(), remove.iter().map(ToString::to_string).collect())
}

fn added(add: &HeaderAdd) -> HeaderValueOption {
    let HeaderAdd { name, value, action, keep_empty } = add;
    let action = match action {
        AppendAction::AppendIfExistsOrAdd => HeaderAppendAction::AppendIfExistsOrAdd,
        AppendAction::AddIfAbsent => HeaderAppendAction::AddIfAbsent,
        AppendAction::OverwriteIfExistsOrAdd => HeaderAppendAction::OverwriteIfExistsOrAdd,
        AppendAction::OverwriteIfExists => HeaderAppendAction::OverwriteIfExists,
    };
    let header =
        HeaderValue { key: name.to_string(), value: value.to_format(), ..HeaderValue::default() };
    HeaderValueOption {
        header: Some(header),
        append: None,
        append_action: action.into(),
        keep_empty_value: *keep_empty,
    }
}
