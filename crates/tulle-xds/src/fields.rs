//! How a decoder takes a message apart: every field is used, refused or warned about.
//!
//! [`fields!`](crate::fields) destructures a generated message without `..`, so a field that
//! nobody thought about does not compile. A refused field is an error when it is set, because
//! ignoring it would change who may talk, where traffic goes or what is encrypted; a warned one
//! has no effect here and says so (design D4). The same declaration is the table from which
//! `docs/reference` is written.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

/// Findings that are kept of one resource, of errors and of warnings each; more are counted.
pub const MAX_FINDINGS: usize = 100;
/// Bytes that are kept of the path of a finding, and of its text: both may quote the resource.
pub const MAX_FINDING_BYTES: usize = 2048;

/// Something that is wrong with, or has no effect in, one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path of the field from the root of the resource, such as
    /// `filter_chains[1].filters[0].typed_config`; empty for the whole resource.
    pub path: String,
    /// What is wrong, and what to do where that is not plain.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.text)
        } else {
            write!(f, "{}: {}", self.path, self.text)
        }
    }
}

/// What was found while a resource was decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// Why it is refused.
    pub errors: Vec<Finding>,
    /// What of it has no effect.
    pub warnings: Vec<Finding>,
    /// Findings beyond [`MAX_FINDINGS`].
    pub omitted: usize,
}

impl Diagnostics {
    fn add(list: &mut Vec<Finding>, omitted: &mut usize, at: &At<'_>, text: String) {
        if list.len() < MAX_FINDINGS {
            list.push(Finding { path: cut(at.to_string()), text: cut(text) });
        } else {
            *omitted += 1;
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.errors.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{finding}")?;
        }
        Ok(())
    }
}

/// What becomes of a resource with fields that this release has never heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// They have no effect, and it is said so.
    #[default]
    Warn,
    /// It is refused.
    Refuse,
}

/// Collects the findings of one resource.
#[derive(Debug, Default)]
pub struct Sink {
    found: RefCell<Diagnostics>,
    unknown: UnknownFields,
}

impl Sink {
    /// An empty one.
    #[must_use]
    pub fn new(unknown: UnknownFields) -> Self {
        Self { found: RefCell::default(), unknown }
    }

    /// The position of the resource itself.
    #[must_use]
    pub fn root(&self) -> At<'_> {
        At { parent: None, step: Step::Root, sink: self }
    }

    /// All that was found.
    #[must_use]
    pub fn into_diagnostics(self) -> Diagnostics {
        self.found.into_inner()
    }

    /// Whether nothing was refused so far.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.borrow().errors.is_empty()
    }
}

/// A position inside a resource. It is only written out when something is found there.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    sink: &'a Sink,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(&'a str, usize),
    Entry(&'a str, &'a str),
}

impl<'a> At<'a> {
    /// The field `name` of this message.
    #[must_use]
    pub fn field<'b>(&'b self, name: &'b str) -> At<'b> {
        self.step(Step::Field(name))
    }

    /// The item at `index` of the repeated field `name`.
    #[must_use]
    pub fn item<'b>(&'b self, name: &'b str, index: usize) -> At<'b> {
        self.step(Step::Item(name, index))
    }

    /// The entry under `key` of the map field `name`.
    #[must_use]
    pub fn entry<'b>(&'b self, name: &'b str, key: &'b str) -> At<'b> {
        self.step(Step::Entry(name, key))
    }

    fn step<'b>(&'b self, step: Step<'b>) -> At<'b> {
        At { parent: Some(self), step, sink: self.sink }
    }

    /// A field with this number is not known.
    pub fn unknown(&self, number: u32) {
        let text = format!("field number {number} is not known");
        match self.sink.unknown {
            UnknownFields::Warn => self.warn(format!("{text} and has no effect")),
            UnknownFields::Refuse => self.error(text),
        }
    }

    /// Refuses the resource.
    pub fn error(&self, text: impl Into<String>) {
        let mut all = self.sink.found.borrow_mut();
        let all = &mut *all;
        Diagnostics::add(&mut all.errors, &mut all.omitted, self, text.into());
    }

    /// Says that something has no effect.
    pub fn warn(&self, text: impl Into<String>) {
        let mut all = self.sink.found.borrow_mut();
        let all = &mut *all;
        Diagnostics::add(&mut all.warnings, &mut all.omitted, self, text.into());
    }

    /// Refuses the resource and gives `None`, for the end of a function.
    pub fn fail<T>(&self, text: impl Into<String>) -> Option<T> {
        self.error(text);
        None
    }

    /// Refuses a field of `M` as the table of its [`fields!`](crate::fields) says; used where one
    /// of several alternatives is not supported.
    pub fn refuse<M: Described>(&self, name: &str) {
        match rule_of::<M>(name) {
            Some(Rule::Refused(why)) => {
                self.field(name).error(format!("is not supported: {why}"));
            }
            rule => debug_assert!(false, "{name} of {} is {rule:?}", M::NAME),
        }
    }

    /// Warns about a field of `M`, as [`refuse`](Self::refuse) does for those that are refused.
    pub fn ignore<M: Described>(&self, name: &str) {
        match rule_of::<M>(name) {
            Some(Rule::Warned(why)) => self.field(name).warn(format!("has no effect: {why}")),
            rule => debug_assert!(false, "{name} of {} is {rule:?}", M::NAME),
        }
    }

    /// What the macro does with a refused field.
    #[doc(hidden)]
    pub fn refuse_if_set(&self, name: &str, why: &str, value: &impl Presence) {
        if value.is_set() {
            self.field(name).error(format!("is not supported: {why}"));
        }
    }

    /// What the macro does with a field that is warned about.
    #[doc(hidden)]
    pub fn warn_if_set(&self, name: &str, why: &str, value: &impl Presence) {
        if value.is_set() {
            self.field(name).warn(format!("has no effect: {why}"));
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_FINDING_BYTES {
        text.truncate(text.floor_char_boundary(MAX_FINDING_BYTES));
        text.push('…');
    }
    text
}

fn rule_of<M: Described>(name: &str) -> Option<Rule> {
    M::FIELDS.iter().find(|field| field.name == name).map(|field| field.rule)
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if parent.parent.is_some() {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => f.write_str(name),
            Step::Item(name, index) => write!(f, "{name}[{index}]"),
            Step::Entry(name, key) => write!(f, "{name}[{key:?}]"),
        }
    }
}

/// Whether a field of a message was set, as far as the wire can tell.
pub trait Presence {
    /// False for the value that a message has without the field.
    fn is_set(&self) -> bool;
}

macro_rules! presence {
    ($($type:ty),*) => {$(
        impl Presence for $type {
            fn is_set(&self) -> bool {
                *self != <$type>::default()
            }
        }
    )*};
}
presence!(bool, i32, i64, u32, u64, f32, f64, String, Bytes);

impl<T> Presence for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T> Presence for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V> Presence for BTreeMap<K, V> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

/// What is done with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It has the effect that Envoy's documentation describes.
    Used,
    /// Setting it is an error; why.
    Refused(&'static str),
    /// It has no effect; why.
    Warned(&'static str),
}

/// One row of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// Name of the field, or for alternatives of the group or one of them.
    pub name: &'static str,
    /// What is done with it.
    pub rule: Rule,
}

impl FieldRule {
    /// A field that is used.
    #[must_use]
    pub const fn used(name: &'static str) -> Self {
        Self { name: proto_name(name), rule: Rule::Used }
    }

    /// A field that is refused.
    #[must_use]
    pub const fn refused(name: &'static str, why: &'static str) -> Self {
        Self { name: proto_name(name), rule: Rule::Refused(why) }
    }

    /// A field that has no effect.
    #[must_use]
    pub const fn warned(name: &'static str, why: &'static str) -> Self {
        Self { name: proto_name(name), rule: Rule::Warned(why) }
    }
}

/// A message whose fields were declared with [`fields!`](crate::fields).
pub trait Described {
    /// Its full name.
    const NAME: &'static str;
    /// Its fields; a group of alternatives is there by its own name, and besides it those of the
    /// alternatives that are refused.
    const FIELDS: &'static [FieldRule];
}

/// The rules of one message, as a value.
#[derive(Clone, Copy, Debug)]
pub struct MessageRules {
    /// Full name of the message.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [FieldRule],
}

impl MessageRules {
    /// Those of `M`.
    #[must_use]
    pub const fn of<M: Described>() -> Self {
        Self { name: M::NAME, fields: M::FIELDS }
    }
}

/// Name of a field as it stands in the .proto file.
#[doc(hidden)]
#[must_use]
pub const fn proto_name(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Takes a message apart at a position, so that each field is declared.
///
/// A `label` is a name that only people read. `used` fields become variables; a set `refused` field
/// is an error, a set `warned` one a warning, with the text beside it; `unless` gives a value that
/// the field may have, because it asks for what happens anyway. `variants` names alternatives that
/// the code refuses with [`At::refuse`], `inert` those it warns about with [`At::ignore`]; the
/// group they belong to is a used field.
///
/// ```ignore
/// fields!(at, message => pb::Filter ["envoy.config.listener.v3.Filter"] {
///     used: name, config_type;
///     variants: config_discovery "extensions are not discovered";
/// });
/// ```
#[macro_export]
macro_rules! fields {
    ($at:expr, $message:expr => $($type:ident)::+ [$($name:literal)+] {
        $(label: $label:ident;)?
        $(used: $($used:ident),+;)?
        $(variants: $($variant:ident $variant_why:literal),+;)?
        $(inert: $($inert:ident $inert_why:literal),+;)?
        $(refused: $($refused:ident $refused_why:literal $(unless $harmless:expr)?),+;)?
        $(warned: $($warned:ident $warned_why:literal $(unless $expected:expr)?),+;)?
    }) => {
        let _: &$crate::fields::At<'_> = &$at;
        let $($type)::+ {
            $($label: _,)? $($($used,)+)? $($($refused,)+)? $($($warned,)+)?
        } = $message;
        $($(if true $(&& $refused != $harmless)? {
            let name = $crate::fields::proto_name(stringify!($refused));
            $at.refuse_if_set(name, $refused_why, &$refused);
        })+)?
        $($(if true $(&& $warned != $expected)? {
            let name = $crate::fields::proto_name(stringify!($warned));
            $at.warn_if_set(name, $warned_why, &$warned);
        })+)?
        #[allow(non_local_definitions, reason = "the table stands where the fields are read")]
        const _: () = {
            impl $crate::fields::Described for $($type)::+ {
                const NAME: &'static str = concat!($($name),+);
                const FIELDS: &'static [$crate::fields::FieldRule] = &[
                    $($crate::fields::FieldRule::used(stringify!($label)),)?
                    $($($crate::fields::FieldRule::used(stringify!($used)),)+)?
                    $($($crate::fields::FieldRule::refused(
                        stringify!($variant), $variant_why),)+)?
                    $($($crate::fields::FieldRule::warned(
                        stringify!($inert), $inert_why),)+)?
                    $($($crate::fields::FieldRule::refused(
                        stringify!($refused), $refused_why),)+)?
                    $($($crate::fields::FieldRule::warned(
                        stringify!($warned), $warned_why),)+)?
                ];
            }
        };
    };
}

#[cfg(test)]
mod tests;
