//! A rolling replacement under load: every instance is replaced by a new one while requests, POSTs
//! included, go on. No request fails, and none is sent to an instance that is gone.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::explicit::{Place, entry};

/// Clients that call one after the other.
const CLIENTS: usize = 8;
/// Every so many requests one is a POST.
const POST_EVERY: u64 = 5;
/// Instances at a time.
const INSTANCES: usize = 2;
/// How late a caller may hear of the end of an instance: well within the settling second…
const LATE: Duration = Duration::from_millis(700);
/// …whose end says nothing against anybody: a machine that stood still until then calls too late.
const SETTLING: Duration = Duration::from_secs(1);
/// Requests that are answered between two steps.
const BETWEEN: u64 = 100;

const STOCK: (&str, u16) = ("stock", 8080);

/// Calls until it is told to stop; every answer must be good.
async fn load(to: SocketAddr, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut client = Client::connect(to).await.unwrap();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let (method, body) = if number % POST_EVERY == 0 { ("POST", "hi") } else { ("GET", "") };
        let length = body.len();
        let head = format!("{method} / HTTP/1.1\r\nhost: stock:8080\r\ncontent-length: {length}");
        client.send(format!("{head}\r\n\r\n{body}").as_bytes()).await;
        let answer = client.response(method).await.unwrap().response;
        assert_eq!(answer.status(), 200, "{method} {number}: {}", answer.text());
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Who has not heard yet of the end of an instance is answered as before: new connections too. How
/// many were.
async fn late_callers(to: SocketAddr) -> u64 {
    let (begun, mut answered) = (Instant::now(), 0);
    while begun.elapsed() < LATE {
        let calling = async {
            let answer = Client::connect(to).await?.get("stock:8080", "/").await?;
            anyhow::ensure!(answer.status() == 200, "{}: {}", answer.status(), answer.text());
            anyhow::Ok(())
        };
        match calling.await {
            Ok(()) => answered += 1,
            Err(error) if begun.elapsed() < SETTLING => panic!("{:?}: {error:#}", begun.elapsed()),
            Err(_) => break,
        }
    }
    answered
}

async fn answered(done: &AtomicU64) {
    let goal = done.load(Ordering::Relaxed) + BETWEEN;
    let more = until("further answers", SOON, || async {
        (done.load(Ordering::Relaxed) >= goal).then_some(())
    });
    more.await.unwrap();
}

#[tokio::test]
async fn no_request_fails_while_every_instance_is_replaced() {
    let mut place = Place::new().unwrap();
    place.write("stock.yaml", &entry("stock", 8080)).unwrap();
    let _control = place.control().await.unwrap();
    let mut instances = Vec::new();
    for number in 0..INSTANCES {
        instances.push(place.instance(&format!("stock-{number}"), STOCK, "").await.unwrap());
    }
    let order = place.sidecar("order", "").await.unwrap();
    let outbound = order.outbound;

    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let start = |_| tokio::spawn(load(outbound, Arc::clone(&done), Arc::clone(&stop)));
    let clients: Vec<_> = (0..CLIENTS).map(start).collect();
    answered(&done).await;
    let mut late = 0;
    for number in 0..2 * INSTANCES {
        instances.push(place.instance(&format!("stock-new-{number}"), STOCK, "").await.unwrap());
        let mut old = instances.remove(0);
        old.sidecar.process.terminate();
        late += late_callers(old.inbound).await;
        old.sidecar.process.wait_exit(SOON).await.unwrap();
        old.app.kill();
        answered(&done).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(late > 0, "nobody called late");
}
