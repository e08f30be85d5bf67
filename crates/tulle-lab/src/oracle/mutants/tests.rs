use std::collections::BTreeMap;

use super::*;
use crate::oracle::rows;

#[test]
fn every_text_of_the_list_is_in_its_source() {
    let mutations = list().unwrap();
    let mut by_file: BTreeMap<&str, Vec<&Mutation>> = BTreeMap::new();
    for mutation in &mutations {
        by_file.entry(&mutation.file).or_default().push(mutation);
    }
    for (file, mutations) in by_file {
        let source = fs::read_to_string(root().join(file)).unwrap();
        applied(&source, &mutations).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn the_list_is_as_wide_as_promised() {
    let mutations = list().unwrap();
    let names: BTreeSet<_> = mutations.iter().map(|one| &one.name).collect();
    assert_eq!(names.len(), mutations.len(), "names differ");
    assert!(mutations.len() >= 40, "{} mutations", mutations.len());
    let known: BTreeSet<_> = rows::all().iter().map(|row| row.name).collect();
    for row in mutations.iter().flat_map(|one| &one.rows) {
        assert!(known.contains(row.as_str()), "there is no row {row}");
    }
}

/// Rows that nothing guards yet: this list only gets shorter.
const UNGUARDED: [&str; 52] = [
    "request-body-on-get",
    "pipelined",
    "response-equal-names",
    "upstream-close-after",
    "large-both-ways",
    "trailers-dropped",
    "forwarded-kept",
    "path-as-sent",
    "method-wrong",
    "not-http",
    "upstream-reset-in-body",
    "chunk-size-wrong",
    "client-resets-request",
    "client-resets-response",
    "retry-not-configured",
    "retry-not-after-head",
    "buffer-empty",
    "buffer-limit",
    "retry-overloaded",
    "fault-delay-untold",
    "original-none",
    "authority-to-host",
    "length-kept",
    "head-over-http2",
    "connection-fields-dropped",
    "cut-becomes-reset",
    "chunks-to-frames",
    "upstream-reset-502",
    "upstream-reset-cut",
    "streams-one-by-one",
    "large-through",
    "te-trailers-kept",
    "goaway-then-new",
    "early-answer",
    "reset-in-body",
    "client-reset",
    "continue-unasked",
    "tcp-server-first",
    "tcp-large",
    "tcp-several",
    "tcp-client-reset",
    "tcp-refused",
    "inspect-timeout",
    "inspect-timeout-partial",
    "original-dst-direct",
    "detect-http10",
    "ws-refused",
    "record-cut",
    "record-garbage",
    "record-http2",
    "record-grpc",
    "record-both-framings",
];

#[test]
fn a_new_row_is_guarded() {
    assert_eq!(unguarded(&list().unwrap()).unwrap(), UNGUARDED);
}

const TWO: &str = "
[a] one
rows: r s
file: f
- if «x»
- {
+ false

[b] two
rows: r
file: f
- «go();»
+
";

#[test]
fn a_part_is_put_behind_its_switch() {
    let mutations = parse(TWO).unwrap();
    assert_eq!(mutations[0].rows, ["r", "s"]);
    let all: Vec<&Mutation> = mutations.iter().collect();
    let source = "if x\n    {\n        go();\n    }\n";
    let expected = "if (if tulle_model::mutant(1) { false } else { x })\n    {\n        \
                    if tulle_model::mutant(2) {  } else { go(); }\n    }\n";
    assert_eq!(applied(source, &all).unwrap(), expected);
    assert!(applied("if y\n", &all).is_err(), "not there");
    assert!(applied(&source.repeat(2), &all).is_err(), "twice");
}
