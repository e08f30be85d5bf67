use std::process::Command;
use std::time::Duration;

use super::{Network, run};
use crate::backend::http1::Backend;
use crate::client::http1::Client;

#[tokio::test]
async fn namespaces_reach_each_other_and_nothing_else() {
    let network = Network::create("reach").unwrap();
    let server = network.plug("server", &["10.0.0.1/24", "fd00::1/64"]).unwrap();
    let client = network.plug("client", &["10.0.0.2/24", "fd00::2/64"]).unwrap();
    let (address, ready) = tokio::sync::oneshot::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = server.enter(move || async move {
        let backend = Backend::start_at("0.0.0.0:8080").await?;
        let _ = address.send(backend.address());
        let _ = stopped.await;
        Ok(backend.received(1).await?.len())
    });
    let asking = async {
        ready.await.unwrap();
        let status = client
            .enter(|| async {
                let mut client = Client::connect("10.0.0.1:8080".parse()?).await?;
                Ok(client.get("h", "/").await?.status())
            })
            .await;
        drop(stop);
        status
    };
    let (served, status) = tokio::join!(serving, asking);
    assert_eq!((served.unwrap(), status.unwrap()), (1, 200));
    let other = Network::create("other").unwrap();
    let stranger = other.plug("stranger", &["10.0.0.3/24"]).unwrap();
    let outside = stranger.enter(|| async {
        let connecting = tokio::net::TcpStream::connect("10.0.0.1:8080");
        Ok(tokio::time::timeout(Duration::from_millis(300), connecting)
            .await
            .is_ok_and(|c| c.is_ok()))
    });
    assert!(!outside.await.unwrap(), "networks are apart");
}

#[tokio::test]
async fn dropping_a_namespace_ends_its_processes() {
    let network = Network::create("end").unwrap();
    let namespace = network.plug("one", &["10.0.0.1/24"]).unwrap();
    let name = namespace.name().to_owned();
    let mut child = namespace.command("sleep").arg("600").spawn().unwrap();
    // The child is forked first and enters the namespace after that.
    let id = child.id().to_string();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !run(Command::new("ip").args(["netns", "pids", &name])).unwrap().contains(&id) {
        assert!(std::time::Instant::now() < deadline, "never entered");
    }
    drop(namespace);
    assert!(!child.wait().unwrap().success());
    let names = run(Command::new("ip").args(["netns", "list"])).unwrap();
    assert!(!names.contains(&name), "{names}");
}
