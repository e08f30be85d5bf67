use std::time::Duration;

use http::StatusCode;

use super::Wish;
use super::calls::Target;

#[test]
fn a_query_asks_for_behaviour_within_limits() {
    let plain = Wish { status: StatusCode::OK, delay: Duration::ZERO, bytes: 0 };
    assert_eq!(Wish::of(""), plain);
    assert_eq!(Wish::of("status=9999&delay_ms=soon&bytes=-1"), plain);
    let asked = Wish::of("a=b&status=503&delay_ms=20&bytes=7");
    assert_eq!(asked.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((asked.delay, asked.bytes), (Duration::from_millis(20), 7));
    assert_eq!(Wish::of("delay_ms=99999999").delay, super::DELAY_LIMIT);
}

#[test]
fn a_url_names_scheme_and_host() {
    assert!("http://payment:7070/pay?a=b".parse::<Target>().is_ok());
    for wrong in ["payment:7070", "https://payment/", "/pay", "http://"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}
