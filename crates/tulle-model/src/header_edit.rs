//! Edits of headers that a route, virtual host or cluster asks for (`HeaderValueOption`).

use std::sync::Arc;

use crate::head::HeaderName;

/// The edits of one level. Removals happen before additions, as Envoy does it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    /// Added or set, in order.
    pub add: Vec<HeaderAdd>,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

impl HeaderEdits {
    /// Whether nothing is edited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}

/// One header to add.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderAdd {
    /// Its name.
    pub name: HeaderName,
    /// Its value, with substitutions.
    pub value: Template,
    /// What happens to one that is there.
    pub action: AppendAction,
    /// Whether the header is written although its value came out empty.
    pub keep_empty: bool,
}

/// `HeaderValueOption.HeaderAppendAction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// Add another one.
    #[default]
    AppendIfExistsOrAdd,
    /// Only if there is none.
    AddIfAbsent,
    /// Replace what is there, or add.
    OverwriteIfExistsOrAdd,
    /// Replace what is there, else nothing.
    OverwriteIfExists,
}

/// A text with substitutions: `%REQ(name)%` and its like.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The parts in order.
    pub parts: Vec<TemplatePart>,
}

/// One part of a [`Template`].
#[derive(Clone, Debug, PartialEq)]
pub enum TemplatePart {
    /// As it stands.
    Literal(Arc<str>),
    /// Put in when the message is there.
    Command(crate::access_log::Command),
}

impl Template {
    /// A text without substitutions.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        Self { parts: vec![TemplatePart::Literal(text.into())] }
    }
}
