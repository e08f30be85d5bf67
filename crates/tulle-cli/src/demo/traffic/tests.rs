use tokio::net::TcpSocket;
use tokio::task::LocalSet;

use super::{Duration, Load};

/// Time enough for some requests to begin.
const BEGIN: Duration = Duration::from_millis(55);

/// A server that accepts at most one connection more than nobody takes from it, and is silent:
/// whoever comes first waits for an answer, all others for their connection.
#[tokio::test]
async fn what_is_never_answered_is_counted_as_failed() {
    let server = TcpSocket::new_v4().unwrap();
    server.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = server.listen(0).unwrap();
    let to = server.local_addr().unwrap();
    let local = LocalSet::new();
    let counts = local.run_until(async {
        let load = Load::start(to, 100, 1, &[]);
        tokio::time::sleep(BEGIN).await;
        let begun = load.shared.under_way.get();
        assert!(begun >= 2, "{begun} requests are under way");
        tokio::time::pause();
        let counts = load.stop().await;
        assert!(counts.total() >= begun);
        counts
    });
    let counts = counts.await;
    assert_eq!((counts.good, counts.failures()), (0, counts.total()), "{}", counts.failed());
    let late = |why: &String| why.starts_with("GET: no answer in time");
    assert!(counts.bad.keys().all(late), "{}", counts.failed());
}

/// A request that ends without an outcome, as one whose task broke off, is one that failed.
#[tokio::test]
async fn nothing_goes_missing_from_the_sum() {
    let local = LocalSet::new();
    let counts = local.run_until(async {
        tokio::time::pause();
        let load = Load::start("127.0.0.1:1".parse().unwrap(), 1, 1, &[]);
        load.shared.stop.set(true);
        load.shared.under_way.set(3);
        load.stop().await
    });
    let counts = counts.await;
    assert_eq!(counts.bad.get("GET: still under way at the end"), Some(&3), "{}", counts.failed());
}
