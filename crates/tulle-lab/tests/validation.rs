//! What the stock Envoy refuses to run and what it takes, `tulle-proxy` refuses and takes too:
//! numbers out of their range, expressions that are none.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use tulle_lab::envoy::Program;

/// What a configuration says in the places where rows differ.
struct Case {
    /// Of the endpoints of its cluster.
    localities: &'static str,
    /// Of the cluster.
    cluster: &'static str,
    /// Of its route.
    path: &'static str,
}

const PLAIN: Case = Case { localities: "{lb_endpoints: [*one]}", cluster: "", path: "prefix: /" };

fn config(case: &Case) -> String {
    let Case { localities, cluster, path } = case;
    let config = include_str!("validation.yaml").replace("{{localities}}", localities);
    config.replace("{{cluster}}", cluster).replace("{{path}}", path)
}

/// Both take it, or both refuse it.
fn check(directory: &Path, case: &Case, is_good: bool) {
    let config = config(case);
    let file = directory.join("c.yaml");
    std::fs::write(&file, &config).unwrap();
    for program in [Program::Envoy, Program::Tulle] {
        let verdict = program.validate(&file).unwrap();
        assert_eq!(verdict.is_ok(), is_good, "{} of {config}{verdict:?}", program.name());
    }
}

#[test]
fn priorities_end_where_envoys_do_and_may_have_gaps() {
    let directory = tempfile::tempdir().unwrap();
    for (localities, is_good) in [
        ("{priority: 1, lb_endpoints: [*one]}", true),
        ("{priority: 7, lb_endpoints: [*one]}", true),
        ("{priority: 128, lb_endpoints: [*one]}", true),
        ("{priority: 129, lb_endpoints: [*one]}", false),
        ("{priority: 4294967295, lb_endpoints: [*one]}", false),
    ] {
        check(directory.path(), &Case { localities, ..PLAIN }, is_good);
    }
}

#[test]
fn an_expression_has_to_be_one_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    for (path, is_good) in [
        ("safe_regex: {regex: '/a|/b'}", true),
        ("safe_regex: {regex: '(/a)|(/b)'}", true),
        ("safe_regex: {regex: '/a)|(/b'}", false),
        ("safe_regex: {regex: '/a)|(?:/b'}", false),
        ("safe_regex: {regex: '(/a'}", false),
    ] {
        check(directory.path(), &Case { path, ..PLAIN }, is_good);
    }
}

#[test]
fn ejections_have_a_share_and_a_time() {
    let directory = tempfile::tempdir().unwrap();
    for (cluster, is_good) in [
        ("outlier_detection: {max_ejection_percent: 100, always_eject_one_host: true}", true),
        ("outlier_detection: {max_ejection_percent: 101}", false),
        ("outlier_detection: {base_ejection_time: 400s}", true),
        ("outlier_detection: {base_ejection_time: 40s, max_ejection_time: 30s}", false),
    ] {
        check(directory.path(), &Case { cluster, ..PLAIN }, is_good);
    }
}
