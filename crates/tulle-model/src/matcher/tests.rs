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
