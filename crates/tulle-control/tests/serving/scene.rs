//! A control plane of one's own, in this process.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tulle_control::app::App;
use tulle_control::settings::{Endpoint, Mesh, Settings, Variables};

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Directories that outlive a control plane.
pub struct Place {
    pub config: TempDir,
    pub state: TempDir,
}

impl Place {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = || tempfile::tempdir().expect("a folder");
        let place = Self { config: folder(), state: folder() };
        for (path, text) in files {
            place.write(path, text);
        }
        place
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.config.path().join(path);
        let temporary = path.with_extension("new");
        fs::write(&temporary, text).expect("written");
        fs::rename(&temporary, &path).expect("renamed");
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.config.path().join(path)).expect("removed");
    }
}

/// A running control plane.
pub struct Control {
    pub xds: Endpoint,
    pub admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Control {
    pub async fn start(place: &Place) -> Self {
        Self::start_at(place, "127.0.0.1:0".parse().expect("an address")).await
    }

    pub async fn start_at(place: &Place, xds: Endpoint) -> Self {
        let settings = Settings {
            config: vec![place.config.path().to_owned()],
            state: Some(place.state.path().to_owned()),
            xds,
            insecure_xds: false,
            admin: ([127, 0, 0, 1], 0).into(),
            mesh: Mesh { domain: "cluster.local".into(), root_namespace: "istio-system".into() },
            variables: Variables::default(),
        };
        let app = App::bind(settings).await.expect("bound");
        let (xds, admin) = (app.xds().expect("bound"), app.admin().expect("bound"));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(app.run(async {
            let _ = stopped.await;
        }));
        Self { xds, admin, stop: Some(stop), task }
    }

    /// Stops it and waits until it is gone.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(DEADLINE, self.task).await.expect("ends in time");
        ended.expect("no panic").expect("no failure");
    }

    pub async fn channel(&self) -> Channel {
        let address = match &self.xds {
            Endpoint::Tcp(address) => format!("http://{address}"),
            Endpoint::Unix(path) => format!("unix://{}", path.display()),
        };
        let endpoint = tonic::transport::Endpoint::from_shared(address).expect("an address");
        endpoint.connect().await.expect("connected")
    }

    /// A request to the admin API; the status and the body.
    pub async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let headers = format!("Host: {}\r\nContent-Type: application/json\r\n", self.admin);
        self.call_with(method, path, &headers, body).await
    }

    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n\
             {body}",
            body.len()
        );
        let call = async {
            let mut socket = tokio::net::TcpStream::connect(self.admin).await.expect("connected");
            socket.write_all(request.as_bytes()).await.expect("written");
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.expect("read");
            answer
        };
        let answer = tokio::time::timeout(DEADLINE, call).await.expect("answers in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.call("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Asks until the answer is as wanted.
    pub async fn wait(
        &self,
        path: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let json = self.json(path).await;
            if wanted(&json) {
                return json;
            }
            assert!(tokio::time::Instant::now() < deadline, "never came; last: {json}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
