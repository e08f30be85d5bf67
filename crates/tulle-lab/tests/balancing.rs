//! How requests are shared among endpoints where chance is part of it: what no row of the oracle
//! can compare line by line. In the stock Envoy and in `tulle-proxy`.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tulle_lab::backend::http1::Answer;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;
use tulle_lab::message::Message;
use tulle_lab::oracle::Stage;

const CONFIG: &str = include_str!("balancing.yaml");

/// The upstreams.
const NAMES: [&str; 3] = ["one", "two", "three"];

async fn open(program: Program<'_>) -> Stage {
    Stage::open(program, CONFIG).await.unwrap()
}

/// Asks on a connection of its own.
async fn ask(stage: &Stage, path: &str, cookie: Option<&str>) -> Message {
    let mut client = Client::connect(stage.listener("http").unwrap()).await.unwrap();
    let cookie = cookie.map(|cookie| format!("cookie: {cookie}\r\n")).unwrap_or_default();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: h\r\n{cookie}\r\n").as_bytes()).await;
    client.response("GET").await.unwrap().response
}

/// Who received requests for `path`.
fn receivers(stage: &Stage, path: &str) -> Vec<&'static str> {
    let begin = format!("GET {path} ");
    let asked = |name: &&str| {
        let received = stage.http1(name).unwrap().so_far();
        received.iter().any(|received| received.request.start.starts_with(&begin))
    };
    NAMES.into_iter().filter(asked).collect()
}

fn set_cookie(answer: &Message) -> Option<&str> {
    let named = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    named.map(|(_, value)| value.as_str())
}

/// Callers without a cookie get one and come back to the endpoint that answered them.
async fn callers_come_back(program: Program<'_>) {
    let stage = open(program).await;
    let mut met = BTreeSet::new();
    for caller in 0..12 {
        for policy in ["ring", "maglev"] {
            let path = format!("/{policy}/{caller}");
            let first = ask(&stage, &path, None).await;
            let set = set_cookie(&first).unwrap_or_else(|| panic!("no cookie in {first:?}"));
            let cookie = set.split(';').next().unwrap().to_owned();
            for _ in 0..4 {
                let again = ask(&stage, &path, Some(&cookie)).await;
                assert_eq!(set_cookie(&again), None, "{path}");
            }
            let receivers = receivers(&stage, &path);
            assert_eq!(receivers.len(), 1, "{path}: {receivers:?}");
            met.extend(receivers);
        }
    }
    assert!(met.len() > 1, "all callers at {met:?}");
}

/// Requests on one connection that lack the cookie get the same one.
async fn a_connection_has_one_cookie(program: Program<'_>) {
    let stage = open(program).await;
    let mut client = Client::connect(stage.listener("http").unwrap()).await.unwrap();
    let first = client.get("h", "/ring").await.unwrap();
    let second = client.get("h", "/ring").await.unwrap();
    assert!(set_cookie(&first).is_some());
    assert_eq!(set_cookie(&first), set_cookie(&second));
    let other = ask(&stage, "/ring", None).await;
    assert_ne!(set_cookie(&first), set_cookie(&other));
}

/// Of so many at random the one with a thousandth of the weight gets its half.
async fn chance_is_blind_to_weights(program: Program<'_>) {
    const REQUESTS: usize = 100;
    let stage = open(program).await;
    for _ in 0..REQUESTS {
        ask(&stage, "/random", None).await;
    }
    let light = stage.http1("one").unwrap().so_far().len();
    // Of 2^100 ways less than one in a thousand million leads outside of this.
    assert!((20..=80).contains(&light), "{light} of {REQUESTS}");
}

/// What was not ejected because it is more than its share is counted.
async fn whom_ejection_spares_is_counted(program: Program<'_>) {
    let stage = open(program).await;
    let broken = || Answer::status(500, "no");
    stage.http1("one").unwrap().script([broken(), broken(), Answer::status(200, "ok")]);
    for expected in [500, 500, 200] {
        assert_eq!(ask(&stage, "/spared", None).await.status(), expected);
    }
    for (name, expected) in [("overflow", "1"), ("enforced_total", "0")] {
        let begin = format!("envoy_cluster_outlier_detection_ejections_{name}");
        let line = format!("{begin}{{envoy_cluster_name=\"spared\"}} {expected}");
        // Envoy's main thread decides, a moment after the worker's second failure.
        let counted = || async {
            let numbers = numbers(stage.listener("admin").unwrap()).await;
            numbers.lines().any(|found| found == line).then_some(())
        };
        until(&line, SOON, counted).await.unwrap();
    }
}

async fn numbers(admin: SocketAddr) -> String {
    let mut client = Client::connect(admin).await.unwrap();
    let answer = client.get(&admin.to_string(), "/stats/prometheus").await.unwrap();
    String::from_utf8_lossy(&answer.body).into_owned()
}

macro_rules! in_both {
    ($($test:ident),*) => {
        mod envoy {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Program::Envoy).await;
            })*
        }

        mod tulle {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Program::Tulle).await;
            })*
        }
    };
}

in_both!(
    callers_come_back,
    a_connection_has_one_cookie,
    chance_is_blind_to_weights,
    whom_ejection_spares_is_counted
);
