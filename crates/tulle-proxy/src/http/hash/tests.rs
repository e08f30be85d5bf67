use std::time::Duration;

use tulle_model::head::ResponseHead;

use super::*;

fn asked(cookies: &[&str]) -> RequestHead {
    let mut head = RequestHead::new();
    for cookies in cookies {
        head.headers.append(KnownId::Cookie, cookies.as_bytes()).expect("a good header");
    }
    head
}

#[test]
fn a_cookie_is_found_among_others() {
    for (cookies, value) in [
        (&["who=me"][..], Some("me")),
        (&["a=1; who=me; who=you"], Some("me")),
        (&["a=1", "who=\"me\""], Some("me")),
        (&["who="], Some("")),
        (&["whom=me; who"], None),
        (&["xwho=me"], None),
    ] {
        let head = asked(cookies);
        assert_eq!(cookie(&head, b"who"), value.map(str::as_bytes), "{cookies:?}");
    }
}

#[test]
fn addresses_of_any_length_are_written() {
    let scoped = std::net::SocketAddrV6::new([0x1111; 8].into(), u16::MAX, 0, u32::MAX);
    for address in ["127.0.0.1:1".parse().expect("an address"), scoped.into()] {
        let address: std::net::SocketAddr = address;
        let mut room = [0; ADDRESS_BYTES];
        let text = address.to_string();
        assert_eq!(written(&mut room, |out| write!(out, "{address}")), text.as_bytes());
        assert_eq!(of_address(address.ip()), xxh64(address.ip().to_string().as_bytes(), 0));
    }
}

#[test]
fn a_cookie_has_what_is_configured() {
    let check = |ttl, path: &str, attributes: &[(&str, &str)], expected: &str| {
        let cookie = HashCookie {
            name: "who".into(),
            ttl: Some(ttl),
            path: path.into(),
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        };
        let mut head = ResponseHead::new();
        set_cookie(&cookie, b"0123456789abcdef", &mut head.headers);
        let value = head.headers.first(KnownId::SetCookie).expect("set");
        assert_eq!(std::str::from_utf8(value), Ok(expected));
    };
    let second = Duration::from_secs(1);
    check(Duration::ZERO, "", &[], "who=\"0123456789abcdef\"; HttpOnly");
    check(second / 2, "", &[], "who=\"0123456789abcdef\"; HttpOnly");
    check(90 * second, "/p", &[], "who=\"0123456789abcdef\"; Max-Age=90; Path=/p; HttpOnly");
    check(
        second,
        "",
        &[("Secure", ""), ("SameSite", "Lax")],
        "who=\"0123456789abcdef\"; Max-Age=1; Secure; SameSite=Lax; HttpOnly",
    );
}
