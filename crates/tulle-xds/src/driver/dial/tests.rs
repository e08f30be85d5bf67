//! Tests of how a server's address is written.

use super::*;

#[track_caller]
fn check(text: &str, uri: &str) {
    let target: Target = text.parse().expect("an address");
    assert_eq!(target.uri, uri);
    let again: Target = target.to_string().parse().expect("what is shown can be read");
    assert_eq!(again, target);
    endpoint(&target.uri, Some("xds.example")).expect("an endpoint");
}

#[test]
fn addresses_are_read_and_shown() {
    check("localhost:15010", "http://localhost:15010");
    check("http://10.0.0.1:15010", "http://10.0.0.1:15010");
    check("[::1]:15010", "http://[::1]:15010");
    check("unix:/run/tulle/xds.sock", "unix:///run/tulle/xds.sock");
    check("unix:///run/tulle/xds.sock", "unix:///run/tulle/xds.sock");
}

#[test]
fn what_is_no_address_is_refused() {
    for text in ["", "localhost", ":15010", "host:port", "host:99999", "unix:relative", "a/b:1"] {
        assert_eq!(text.parse::<Target>(), Err(BadTarget(text.to_owned())));
    }
}
