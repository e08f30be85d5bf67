//! Applications that say their name, and callers that notice every answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};

/// Starts an application that answers every request with its name; it lives as long as the test.
pub async fn application(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, name));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, name: &str) {
    let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        head.extend_from_slice(&bytes[..read]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            if stream.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// One request on a connection of its own: status and body.
pub async fn call(to: SocketAddr) -> Option<(u16, String)> {
    let mut client = Client::connect(to).await.ok()?;
    let answer = client.get("service", "/").await.ok()?;
    Some((answer.status(), answer.text()))
}

/// Waits until `to` answers with `name`.
pub async fn until_answered_by(to: SocketAddr, name: &str) {
    let what = format!("an answer of {name}");
    let look = || async { call(to).await.filter(|(_, body)| body == name).map(drop) };
    until(&what, SOON, look).await.unwrap();
}

/// Callers that go on until they are stopped, each on one connection.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    last: Arc<Mutex<String>>,
    callers: Vec<JoinHandle<()>>,
}

/// Callers at a time.
const CALLERS: usize = 4;

impl Load {
    /// Begins to call. Every answer must be good, and no connection may break.
    pub fn start(to: SocketAddr) -> Load {
        let mut load = Load {
            stop: Arc::default(),
            answered: Arc::default(),
            last: Arc::default(),
            callers: Vec::new(),
        };
        for _ in 0..CALLERS {
            let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
            let last = Arc::clone(&load.last);
            load.callers.push(tokio::spawn(async move {
                let mut client = Client::connect(to).await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get("service", "/").await.unwrap();
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                    *last.lock().unwrap() = answer.text();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// Waits until the callers hear from `name`, and some more answers after that.
    pub async fn hears(&self, name: &str) {
        let what = format!("callers that hear from {name}");
        let look = || async { (*self.last.lock().unwrap() == name).then_some(()) };
        until(&what, SOON, look).await.unwrap();
        self.goes_on().await;
    }

    /// Waits for further answers.
    pub async fn goes_on(&self) {
        let goal = self.answered.load(Ordering::Relaxed) + 50;
        let look = || async { (self.answered.load(Ordering::Relaxed) >= goal).then_some(()) };
        until("further answers", SOON, look).await.unwrap();
    }

    /// Stops; fails if any request failed.
    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
    }
}
