use super::*;

fn pattern(source: &str) -> Pattern {
    Pattern::new(source).expect("a pattern")
}

#[test]
fn a_pattern_matches_the_whole_or_nothing() {
    let either = pattern("/a|/b[0-9]+");
    for path in ["/a", "/b1", "/b23"] {
        assert!(either.matches(path.as_bytes()), "{path}");
    }
    for path in ["/ab", "x/a", "/b", "/b1/", "/a\n", "\n/a"] {
        assert!(!either.matches(path.as_bytes()), "{path:?}");
    }
}

/// What would only become an expression by the group and the anchors that are put around it.
#[test]
fn an_expression_cannot_leave_its_anchors() {
    for source in ["/a)|(/b", "/a)|(?:/b", "a)(", ")", "(", "(?:", "a\\", "[a", "(?x)a #)"] {
        assert!(Pattern::new(source).is_err(), "{source}");
        if source != "(?x)a #)" {
            assert!(Substitution::new(source, "").is_err(), "{source}");
        }
    }
    let flags_inside = pattern("(?m)a$|b");
    assert!(flags_inside.matches(b"a") && !flags_inside.matches(b"a\nb"));
}
