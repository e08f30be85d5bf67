use super::*;
use crate::proto::envoy::config::core::v3::{QueryParameter, WatchedDirectory};

fn directory(message: WatchedDirectory, at: &At<'_>) -> String {
    fields!(at, message => WatchedDirectory ["envoy.config.core.v3.WatchedDirectory"] {
        used: path;
        refused: watch_modify "nobody watches";
    });
    path
}

fn parameter(message: QueryParameter, at: &At<'_>) -> String {
    fields!(at, message => QueryParameter ["envoy.config.core.v3.QueryParameter"] {
        used: key;
        variants: other "never read";
        warned: value "nobody looks";
    });
    at.refuse::<QueryParameter>("other");
    key
}

#[test]
fn a_refused_field_is_an_error_only_when_it_is_set() {
    let sink = Sink::default();
    let at = sink.root();
    let unset = WatchedDirectory { path: "/a".to_owned(), watch_modify: false };
    assert_eq!(directory(unset.clone(), &at.field("x")), "/a");
    assert!(sink.is_clean());
    directory(
        WatchedDirectory { watch_modify: true, ..unset },
        &at.item("filters", 1).entry("pipes", "a b"),
    );
    let found = sink.into_diagnostics();
    let text = r#"filters[1].pipes["a b"].watch_modify: is not supported: nobody watches"#;
    assert_eq!(found.to_string(), text);
}

#[test]
fn a_warned_field_does_not_refuse_and_a_variant_does() {
    let sink = Sink::default();
    let message = QueryParameter { key: "k".to_owned(), value: "v".to_owned() };
    parameter(message, &sink.root());
    let found = sink.into_diagnostics();
    let warnings: Vec<_> = found.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["value: has no effect: nobody looks"]);
    assert_eq!(found.to_string(), "other: is not supported: never read");
}

#[test]
fn the_declaration_is_a_table() {
    let rules = MessageRules::of::<QueryParameter>();
    assert_eq!(rules.name, "envoy.config.core.v3.QueryParameter");
    let rule = |name: &str| rules.fields.iter().find(|field| field.name == name).unwrap().rule;
    assert_eq!(rule("key"), Rule::Used);
    assert_eq!(rule("value"), Rule::Warned("nobody looks"));
    assert_eq!(proto_name("r#match"), "match");
}

#[test]
fn findings_are_bounded() {
    let sink = Sink::default();
    for _ in 0..MAX_FINDINGS + 3 {
        sink.root().error("bad");
    }
    let found = sink.into_diagnostics();
    assert_eq!((found.errors.len(), found.omitted), (MAX_FINDINGS, 3));
    let sink = Sink::default();
    sink.root().entry("map", &"é".repeat(MAX_FINDING_BYTES)).error("x".repeat(9_999));
    let found = sink.into_diagnostics();
    assert!(found.errors[0].path.len() <= MAX_FINDING_BYTES + '…'.len_utf8());
    assert!(found.errors[0].text.ends_with("x…"));
}
