//! Heads: lookups see edits, order and case stay, hostile values are refused.

use std::fmt::Write as _;

use super::*;

fn fields(headers: &Headers) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|field| {
            (
                String::from_utf8_lossy(field.name).into_owned(),
                String::from_utf8_lossy(field.value).into_owned(),
            )
        })
        .collect()
}

fn table(lines: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in lines {
        headers.append(*name, value.as_bytes()).unwrap();
    }
    headers
}

fn pairs(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn received_fields_keep_order_and_case() {
    let raw = b"HoSt: a\r\nX-One: 1\r\nx-one: 2\r\n";
    let mut headers = Headers::new();
    headers.load(raw).unwrap();
    for (name, value) in [(0..4, 6..7), (9..14, 16..17), (19..24, 26..27)] {
        let id = KnownId::of(&raw[name.clone()]);
        let (name, value) = (Span::new(name.start, name.end), Span::new(value.start, value.end));
        headers.push_received(FieldSpans { id, name, value, is_line: true });
    }
    assert_eq!(fields(&headers), pairs(&[("HoSt", "a"), ("X-One", "1"), ("x-one", "2")]));
    assert_eq!(headers.first(KnownId::Host), Some(b"a".as_slice()));
    assert_eq!(headers.all("X-ONE").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(headers.single("x-one"), Err(2));
    assert_eq!(headers.single("host"), Ok(Some(b"a".as_slice())));
    assert_eq!(headers.single("x-two"), Ok(None));
    assert_eq!(headers.wire_len(), raw.len());
}

#[test]
fn names_of_a_set_are_removed_together() {
    let mut headers = table(&[("via", "1"), ("x", "2"), ("Te", "3"), ("TE", "4"), ("age", "5")]);
    let set = KnownSet::of(&[KnownId::Te, KnownId::Via, KnownId::Cookie]);
    assert!(set.has(KnownId::Te) && !set.has(KnownId::Age));
    assert_eq!(headers.remove_all(set), 3);
    assert_eq!(fields(&headers), pairs(&[("x", "2"), ("age", "5")]));
    assert_eq!(headers.first(KnownId::Te), None, "and is not looked for any more");
    assert_eq!(headers.remove_all(set), 0);
}

#[test]
fn set_replaces_in_place_and_removes_the_others() {
    let mut headers = table(&[("a", "1"), ("b", "2"), ("A", "3"), ("c", "4"), ("a", "5")]);
    headers.set("a", b"new").unwrap();
    assert_eq!(fields(&headers), pairs(&[("a", "new"), ("b", "2"), ("c", "4")]));
    headers.set("d", b"5").unwrap();
    assert_eq!(headers.first("d"), Some(b"5".as_slice()));
    assert_eq!(headers.len(), 4);
}

#[test]
fn remove_by_known_id_and_by_bytes_are_the_same() {
    for name in ["cookie", "COOKIE"] {
        let mut headers = table(&[("Cookie", "1"), ("x", "2"), ("cookie", "3")]);
        assert_eq!(headers.remove(name), 2);
        assert!(!headers.contains(KnownId::Cookie));
        assert_eq!(headers.remove(KnownId::Cookie), 0);
        headers.append(KnownId::Cookie, b"4").unwrap();
        assert_eq!(headers.first("Cookie"), Some(b"4".as_slice()));
    }
}

#[test]
fn retain_keeps_the_presence_mask_true() {
    let mut headers = table(&[("cookie", "1"), ("te", "2"), ("x-a", "3")]);
    assert_eq!(headers.retain(|field| field.id.is_none()), 2);
    assert!(!headers.contains(KnownId::Cookie) && !headers.contains(KnownId::Te));
    assert_eq!(fields(&headers), pairs(&[("x-a", "3")]));
}

#[test]
fn join_extends_the_last_value() {
    let mut headers = table(&[("x-forwarded-for", "1"), ("x-forwarded-for", "2")]);
    headers.join(KnownId::XForwardedFor, b",", b"3").unwrap();
    headers.join("via", b", ", b"1.1 tulle").unwrap();
    assert_eq!(
        fields(&headers),
        pairs(&[("x-forwarded-for", "1"), ("x-forwarded-for", "2,3"), ("via", "1.1 tulle")])
    );
}

#[test]
fn append_if_absent_looks_first() {
    let mut headers = Headers::new();
    assert_eq!(headers.append_if_absent("server", b"a"), Ok(true));
    assert_eq!(headers.append_if_absent("Server", b"b"), Ok(false));
    assert_eq!(fields(&headers), pairs(&[("server", "a")]));
}

#[test]
fn values_that_could_forge_fields_are_refused_and_change_nothing() {
    for value in [b"a\r\nb: c".as_slice(), b"a\nb", b"a\rb", b"a\0b", b"\x7f", b"\x1b"] {
        let mut headers = table(&[("x", "1")]);
        let buffer = headers.buffer().len();
        assert_eq!(headers.append("y", value), Err(FieldError::Value), "{value:?}");
        assert_eq!(headers.set("x", value), Err(FieldError::Value));
        assert_eq!(headers.join("x", b",", value), Err(FieldError::Value));
        assert_eq!(headers.prepend("y", value), Err(FieldError::Value));
        assert_eq!(headers.set_with("y", |out| out.push(value)), Err(FieldError::Value));
        assert_eq!(fields(&headers), pairs(&[("x", "1")]));
        assert_eq!(headers.buffer().len(), buffer);
    }
    let mut headers = Headers::new();
    for name in ["", "a b", "a:", "a\r\n", "ä", ":path"] {
        assert_eq!(headers.append(name, b"1"), Err(FieldError::Name), "{name:?}");
    }
    headers.append("x", "grün\t".as_bytes()).unwrap();
}

#[test]
fn values_are_written_in_place() {
    let mut headers = Headers::new();
    headers
        .append_with("x", |out| {
            out.push_u64(0);
            out.push(b" ");
            out.push_u64(u64::MAX);
            let _ = write!(out, " {:?}", "q");
        })
        .unwrap();
    assert_eq!(headers.first("x"), Some(b"0 18446744073709551615 \"q\"".as_slice()));
}

#[test]
fn tokens_cross_fields_and_ignore_case_and_empty_elements() {
    let headers = table(&[("Connection", " , close,\tX-A ,,"), ("connection", "Upgrade")]);
    let tokens: Vec<_> = headers.tokens(KnownId::Connection).collect();
    assert_eq!(tokens, [b"close".as_slice(), b"X-A", b"Upgrade"]);
    assert!(headers.contains_token(KnownId::Connection, b"upgrade"));
    assert!(headers.contains_token("connection", b"x-a"));
    assert!(!headers.contains_token(KnownId::Connection, b"keep-alive"));
}

#[test]
fn fields_listed_by_another_are_removed() {
    let mut headers = table(&[
        ("x-a", "1"),
        ("Connection", "close, X-B"),
        ("x-b", "2"),
        ("cookie", "3"),
        ("connection", "cookie, connection, x-none"),
        ("X-B", "4"),
    ]);
    assert_eq!(headers.remove_listed(KnownId::Connection), 3);
    let left =
        [("x-a", "1"), ("Connection", "close, X-B"), ("connection", "cookie, connection, x-none")];
    let left: Vec<_> = pairs(&left).into_iter().map(|(n, v)| (n.to_lowercase(), v)).collect();
    let found: Vec<_> = fields(&headers).into_iter().map(|(n, v)| (n.to_lowercase(), v)).collect();
    assert_eq!(found, left);
    assert!(!headers.contains(KnownId::Cookie) && headers.contains(KnownId::Connection));
}

#[test]
fn the_authority_is_the_host_field() {
    let mut head = RequestHead::new();
    assert_eq!(head.authority(), b"");
    head.headers.append("x", b"1").unwrap();
    head.set_authority(b"a:80").unwrap();
    assert_eq!(fields(&head.headers), pairs(&[("host", "a:80"), ("x", "1")]));
    head.headers.set("Host", b"b").unwrap();
    assert_eq!(head.authority(), b"b");
    assert_eq!(head.value(":authority".into()), Some(b"b".as_slice()));
}

#[test]
fn pseudo_fields_are_looked_up_by_name() {
    let mut head = RequestHead::new();
    head.set_method(b"PURGE").unwrap();
    head.set_path(b"/a?b=c").unwrap();
    head.scheme = Some(Scheme::Https);
    let value = |name: &str| head.value(name.into()).map(|v| String::from_utf8_lossy(v));
    assert_eq!(value(":method").as_deref(), Some("PURGE"));
    assert_eq!(value(":path").as_deref(), Some("/a?b=c"));
    assert_eq!(value(":scheme").as_deref(), Some("https"));
    assert_eq!(value(":authority"), None);
    assert_eq!(value(":protocol"), None);
    assert_eq!(value(":nonsense"), None);
    assert_eq!(head.set_method(b"A B"), Err(FieldError::Name));
    for path in [b"a".as_slice(), b"/a b", b"/\xff", b"/#", b"/a\\b", b"*x", b"/\x7f"] {
        assert_eq!(head.set_path(path), Err(FieldError::Value), "{path:?}");
    }
}

#[test]
fn query_parameters_are_raw_and_in_order() {
    let params = |query: &'static str| {
        QueryParams::new(query.as_bytes())
            .map(|(name, value)| {
                format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(params("a=1&b&&c=x=y&a=%32"), ["a=1", "b=", "c=x=y", "a=%32"]);
    assert!(params("").is_empty());
    assert_eq!(QueryParams::new(b"a=1&a=2").first(b"a"), Some(b"1".as_slice()));
    assert_eq!(split_path(b"/p?q?r"), (b"/p".as_slice(), Some(b"q?r".as_slice())));
    assert_eq!(split_path(b"/p"), (b"/p".as_slice(), None));
}

#[test]
fn clear_and_clone_from_keep_the_capacity() {
    let mut head = RequestHead::new();
    head.set_path(b"/abc").unwrap();
    head.headers.append("x-a", b"12345").unwrap();
    let mut copy = RequestHead::new();
    copy.clone_from(&head);
    assert_eq!(copy.path(), b"/abc");
    assert_eq!(copy.headers.first("x-a"), Some(b"12345".as_slice()));
    let capacity = head.headers.capacity_bytes();
    head.clear();
    assert_eq!((head.path(), head.headers.len()), (b"".as_slice(), 0));
    assert!(!head.headers.contains("x-a"));
    assert_eq!(head.headers.capacity_bytes(), capacity);
}

#[test]
fn sizes_stay_small() {
    assert!(size_of::<Headers>() <= 64, "{}", size_of::<Headers>());
    assert!(size_of::<RequestHead>() <= 112, "{}", size_of::<RequestHead>());
    assert!(size_of::<ResponseHead>() <= 80, "{}", size_of::<ResponseHead>());
}

#[track_caller]
fn check_authority(input: &str, expected: Result<(&str, Option<u16>), AuthorityError>) {
    let parsed = CanonicalAuthority::parse(input.as_bytes());
    let found = parsed.as_ref().map(|authority| (authority.host.as_ref(), authority.port));
    assert_eq!(found.map_err(|error| *error), expected, "{input}");
}

#[test]
fn authorities_have_one_canonical_form() {
    check_authority("a.example", Ok(("a.example", None)));
    check_authority("A.Example:80", Ok(("a.example", Some(80))));
    check_authority("a.example.:8080", Ok(("a.example", Some(8080))));
    check_authority("a.example:", Ok(("a.example", None)));
    check_authority("under_score", Ok(("under_score", None)));
    check_authority("10.0.0.1:1", Ok(("10.0.0.1", Some(1))));
    check_authority("[::1]", Ok(("::1", None)));
    check_authority("[2001:DB8:0:0::1]:443", Ok(("2001:db8::1", Some(443))));
    check_authority("a:65535", Ok(("a", Some(65535))));
    check_authority("", Err(AuthorityError::Empty));
    check_authority(".", Err(AuthorityError::Empty));
    check_authority(":80", Err(AuthorityError::Empty));
    check_authority("a..", Err(AuthorityError::Host));
    check_authority("u@a", Err(AuthorityError::UserInfo));
    check_authority("a:80@b", Err(AuthorityError::UserInfo));
    check_authority("a b", Err(AuthorityError::Host));
    check_authority("a/b", Err(AuthorityError::Host));
    check_authority("a\\b", Err(AuthorityError::Host));
    check_authority("a%00", Err(AuthorityError::Host));
    check_authority("ä", Err(AuthorityError::Host));
    check_authority("a:b", Err(AuthorityError::Port));
    check_authority("a:80:80", Err(AuthorityError::Port));
    check_authority("a:65536", Err(AuthorityError::Port));
    check_authority("a:+80", Err(AuthorityError::Port));
    check_authority("a:000080", Err(AuthorityError::Port));
    check_authority("::1", Err(AuthorityError::Port));
    check_authority("[::1", Err(AuthorityError::IpLiteral));
    check_authority("[::1]x", Err(AuthorityError::Port));
    check_authority("[::1%25eth0]", Err(AuthorityError::IpLiteral));
    check_authority("[10.0.0.1]", Err(AuthorityError::IpLiteral));
    check_authority(&"a".repeat(255), Err(AuthorityError::TooLong));
}

#[test]
fn a_canonical_authority_borrows_unless_a_byte_changes() {
    let is_borrowed = |input: &'static str| {
        let parsed = CanonicalAuthority::parse(input.as_bytes()).unwrap();
        matches!(parsed.host, std::borrow::Cow::Borrowed(_))
    };
    assert!(is_borrowed("a.example.:80"));
    assert!(is_borrowed("[::1]:80"));
    assert!(!is_borrowed("A.example"));
    let parsed = CanonicalAuthority::parse(b"a").unwrap();
    assert_eq!(parsed.port_or_default(Scheme::Https), 443);
    assert_eq!(
        CanonicalAuthority::parse(b"10.0.0.1").unwrap().address.unwrap().to_string(),
        "10.0.0.1"
    );
}
