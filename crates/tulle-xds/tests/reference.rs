//! `docs/reference/envoy.md` is what the decoders declare about each field.
//!
//! `UPDATE_GOLDEN=1` writes the page anew.

#![expect(clippy::disallowed_methods, reason = "UPDATE_GOLDEN is read here only")]
#![expect(clippy::unwrap_used, reason = "the descriptors are compiled in")]

use std::fmt::Write as _;
use std::path::Path;

use prost_reflect::{DescriptorPool, MessageDescriptor};
use tulle_xds::decode::REFERENCE;
use tulle_xds::fields::{MessageRules, Rule};
use tulle_xds::proto::DESCRIPTORS;

const HEAD: &str = "# Fields of Envoy's API

What a bootstrap file and resources of an xDS server may say, message by message, in Envoy v1.39's
API. A field that is *used* has the effect that Envoy's documentation describes. Setting one that is
an *error* refuses the resource: ignoring it would change who may talk, where traffic goes or what
is encrypted. One with *no effect* is warned about. Messages and fields that are not listed here
are not known: an error in a file, a warning from a server. Written by
`crates/tulle-xds/tests/reference.rs` from the decoders themselves.
";

fn render() -> String {
    let mut messages: Vec<&MessageRules> = REFERENCE.iter().collect();
    messages.sort_by_key(|message| message.name);
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let described = |message: &MessageRules| pool.get_message_by_name(message.name).unwrap();
    messages
        .iter()
        .fold(HEAD.to_owned(), |page, message| page + &section(message, &described(message)))
}

/// The field, or if it is a group of alternatives those of them that are used.
fn fields(name: &str, message: &MessageRules, described: &MessageDescriptor) -> Vec<String> {
    let Some(group) = described.oneofs().find(|group| group.name() == name) else {
        return vec![name.to_owned()];
    };
    let declared = |name: &str| message.fields.iter().any(|field| field.name == name);
    let alternatives = group.fields().map(|field| field.name().to_owned());
    alternatives.filter(|field| !declared(field)).collect()
}

fn section(message: &MessageRules, described: &MessageDescriptor) -> String {
    let mut text = format!("\n## {}\n", message.name);
    let used = message.fields.iter().filter(|field| field.rule == Rule::Used);
    let used = used.flat_map(|field| fields(field.name, message, described));
    let used: Vec<_> = used.map(|field| format!("`{field}`")).collect();
    if !used.is_empty() {
        let _ = writeln!(text, "\nUsed: {}.", used.join(", "));
    }
    let rows = message.fields.iter().filter_map(|field| match field.rule {
        Rule::Used => None,
        Rule::Refused(why) => Some(format!("| `{}` | error | {why} |\n", field.name)),
        Rule::Warned(why) => Some(format!("| `{}` | no effect | {why} |\n", field.name)),
    });
    let rows: String = rows.collect();
    match (rows.is_empty(), message.fields.is_empty()) {
        (false, _) => text + "\n| field | is | because |\n|---|---|---|\n" + &rows,
        (true, true) => text + "\nHas no fields.\n",
        (true, false) => text,
    }
}

#[test]
fn the_page_is_what_the_decoders_declare() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/envoy.md");
    let expected = render();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/reference/envoy.md is out of date: UPDATE_GOLDEN=1");
}
