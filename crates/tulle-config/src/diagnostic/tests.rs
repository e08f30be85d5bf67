use super::*;
use crate::object::Kind;

#[test]
fn a_finding_reads_as_one_line() {
    let diagnostic = Diagnostic {
        code: Code::UnknownField,
        severity: Severity::Error,
        file: "mesh/a.yaml".into(),
        at: Position { line: 3, column: 5 },
        object: Some(ObjectId::new(Kind::Gateway, "edge", "front")),
        path: "spec.server".into(),
        message: "the field does not exist".into(),
        help: "write servers".into(),
    };
    assert_eq!(
        diagnostic.to_string(),
        "mesh/a.yaml:3:5: error[TUL0301] spec.server: the field does not exist; write servers"
    );
    let json = serde_json::to_value(&diagnostic).unwrap();
    assert_eq!(json["code"], "TUL0301");
    assert_eq!(json["line"], 3);
    assert_eq!(json["object"]["namespace"], "edge");
}

#[test]
fn codes_are_unique_and_documented() {
    let mut seen = std::collections::BTreeSet::new();
    for code in Code::ALL {
        assert!(seen.insert(code.as_str()), "{code} twice");
        assert!(code.as_str().starts_with("TUL0") && code.as_str().len() == 7);
        assert!(code.summary().ends_with('.'));
    }
    assert_eq!(reference().lines().count(), Code::ALL.len() + 2);
}
