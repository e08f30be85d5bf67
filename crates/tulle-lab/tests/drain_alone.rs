//! A sidecar that ends while there is no control plane: callers cannot be told, so they are refused
//! soon and try elsewhere; what was asked before is answered, and the application may still call
//! others for it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpStream;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::explicit::{Place, entry};

/// How long the application is at work before it calls payment, at least: it stands still until
/// callers are refused, however long a control plane is looked for.
const WORK: Duration = Duration::from_secs(4);
/// How soon callers are refused, on a machine that does much else.
const REFUSED: Duration = Duration::from_secs(60);
/// Requests at work at the same time: the application has kept one connection to its sidecar, so
/// that for the others it has to open new ones.
const ASKED: usize = 3;

async fn ask(client: &mut Client, path: &str) -> (u16, Value) {
    let answer = client.get("stock:8080", path).await.unwrap();
    (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
}

#[tokio::test]
async fn callers_are_refused_soon_and_what_was_asked_before_is_done() {
    let mut place = Place::new().unwrap();
    let entries = [entry("stock", 8080), entry("payment", 7070)];
    place.write("shop.yaml", &entries.join("---\n")).unwrap();
    let mut control = place.control().await.unwrap();
    let _payment = place.instance("payment-1", ("payment", 7070), "").await.unwrap();
    let calls = "--call http://payment:7070/";
    let mut stock = place.instance("stock-1", ("stock", 8080), calls).await.unwrap();
    let entry = stock.inbound;
    let warm = until("an answer through both", SOON, || async {
        let mut client = Client::connect(entry).await.ok()?;
        (client.get("stock:8080", "/").await.ok()?.status() == 200).then_some(())
    });
    warm.await.unwrap();

    control.kill();
    let asked = move || async move {
        let mut client = Client::connect(entry).await.unwrap().patient(WORK + REFUSED);
        ask(&mut client, &format!("/?delay_ms={}", WORK.as_millis())).await
    };
    let asking: Vec<_> = (0..ASKED).map(|_| tokio::spawn(asked())).collect();
    until("the application is at work", SOON, || {
        let at_work = stock.app.stdout().matches("delay_ms").count() == ASKED;
        std::future::ready(at_work.then_some(()))
    })
    .await
    .unwrap();
    stock.app.signal(Signal::STOP);
    let sidecar = &mut stock.sidecar.process;
    sidecar.terminate();
    let refused = until("callers are refused", REFUSED, || async {
        TcpStream::connect(entry).await.is_err().then_some(())
    });
    let refused = refused.await;
    stock.app.signal(Signal::CONT);
    refused.unwrap();
    assert!(sidecar.exited().unwrap().is_none(), "refused because nobody was there any more");
    assert!(asking.iter().all(|asked| !asked.is_finished()), "nobody was at work any more");
    for asked in asking {
        let (status, answer) = asked.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["calls"][0]["status"], 200, "{answer}");
    }
    assert!(sidecar.wait_exit(SOON).await.unwrap().success());
}
