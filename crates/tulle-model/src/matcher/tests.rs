use super::*;

fn headers(values: &[&str]) -> Headers {
    let mut head = RequestHead::new();
    for value in values {
        head.headers.append("x-h", value.as_bytes()).expect("a good header");
    }
    head.headers
}

fn header(check: HeaderCheck, invert: bool, treat_missing_as_empty: bool) -> HeaderMatch {
    let name = HeaderName::parse("x-h").expect("a name");
    HeaderMatch { name, check, invert, treat_missing_as_empty }
}

#[test]
fn a_missing_header_has_no_value_to_match() {
    let no = || HeaderCheck::String(StringMatch::exact("no"));
    let digit = || HeaderCheck::Range { start: 0, end: 10 };
    for (check, invert, as_empty, values, expected) in [
        (no(), false, false, &[][..], false),
        (no(), true, false, &[], false),
        (no(), true, true, &[], true),
        (no(), true, true, &["no"], false),
        (no(), true, false, &["yes"], true),
        (no(), true, false, &["yes", "no"], false),
        (digit(), true, false, &[], false),
        (digit(), true, true, &[], true),
        (HeaderCheck::Present(true), true, false, &[], true),
        (HeaderCheck::Present(false), true, false, &[], false),
        (HeaderCheck::String(StringMatch::exact("")), false, true, &[], true),
    ] {
        let matcher = header(check, invert, as_empty);
        assert_eq!(matcher.matches(&headers(values)), expected, "{matcher:?} and {values:?}");
    }
}

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
