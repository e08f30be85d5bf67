use super::*;

#[test]
fn host_names_are_canonical() {
    let name = |text: &str| HostName::parse(text).map(|name| name.to_string());
    assert_eq!(name("Reviews.Prod.").as_deref(), Ok("reviews.prod"));
    assert_eq!(name("2001:DB8:0::1").as_deref(), Ok("2001:db8::1"));
    for wrong in ["", ".", "a..b", "-a", "a-", "a b", "a/b", "a:80", "ä", "*.a"] {
        assert!(HostName::parse(wrong).is_err(), "{wrong}");
    }
    assert!(HostName::parse("reviews").unwrap().is_short());
    assert!(!HostName::parse("10.0.0.1").unwrap().is_short());
}

#[test]
fn patterns_match_and_contain() {
    let pattern = |text: &str| HostPattern::parse(text).unwrap();
    assert!(pattern("*.bar.com").matches("foo.bar.com"));
    assert!(!pattern("*.bar.com").matches("bar.com"));
    assert!(!pattern("*.bar.com").matches(".bar.com"));
    assert!(pattern("*").contains(&pattern("*.a")));
    assert!(pattern("*.com").contains(&pattern("*.bar.com")));
    assert!(pattern("*.com").contains(&pattern("bar.com")));
    assert!(!pattern("*.bar.com").contains(&pattern("*.com")));
    assert!(!pattern("bar.com").contains(&pattern("*")));
    for wrong in ["a.*.b", "**", "*a.b", "*.", "*.10.0.0.1", "foo*"] {
        assert!(HostPattern::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn protocols_by_declaration_and_by_name() {
    assert_eq!(Protocol::parse("GRPC"), Ok(Protocol::Grpc));
    assert!(Protocol::parse("udp").is_err());
    assert_eq!(Protocol::from_port_name("http2-api"), Protocol::Http2);
    assert_eq!(Protocol::from_port_name("grpc-web"), Protocol::Grpc);
    assert_eq!(Protocol::from_port_name("mysql"), Protocol::Tcp);
    assert_eq!(Protocol::from_port_name("web"), Protocol::Auto);
}

#[test]
fn expressions_compile_within_a_limit() {
    assert!(pattern("/v[0-9]+").unwrap().matches(b"/v12"));
    assert!(pattern("(?=x)").unwrap_err().message.contains("look-around"));
    let huge = pattern("(x{1000}){1000}").unwrap_err();
    assert!(huge.message.contains("size limit"), "{huge:?}");
    assert!(substitution("(a)", "\\2").unwrap_err().message.contains("group"));
}

#[test]
fn visibility_is_per_namespace() {
    let only = Visibility::Only { own: true, namespaces: ["b".to_owned()].into() };
    assert!(only.shows("a", "a") && only.shows("a", "b") && !only.shows("a", "c"));
    assert!(Visibility::All.shows("a", "c"));
}

#[test]
fn what_two_declarations_show_is_what_both_show() {
    let only = |own, names: &[&str]| Visibility::Only {
        own,
        namespaces: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let all = || Visibility::All;
    for (one, other, shown) in [
        (all(), all(), "home a b"),
        (all(), only(true, &[]), "home"),
        (only(true, &["a"]), only(false, &["home", "b"]), "home"),
        (only(false, &["a", "b"]), only(true, &["b"]), "b"),
        (only(true, &["a"]), only(false, &[]), ""),
    ] {
        for both in [one.and(&other, "home"), other.and(&one, "home")] {
            let seen = ["home", "a", "b"].into_iter().filter(|from| both.shows("home", from));
            assert_eq!(seen.collect::<Vec<_>>().join(" "), shown, "{one:?} and {other:?}");
        }
    }
}
