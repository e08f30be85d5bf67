//! The xDS client of this proxy: one session over many streams, on the control thread.
//!
//! [`session`] holds the sans-IO core and turns what it says into changes of the configuration;
//! [`transport`] carries its messages. Names that workers need come in as questions; what was
//! learnt goes out through [`Configuration`].

pub mod node;
pub mod saved;
pub mod session;
pub mod transport;

use std::time::Instant;

use tokio::sync::mpsc;
use tulle_model::lookup::Needed;
use tulle_xds::proto::envoy::config::core::v3 as core;
use tulle_xds::proto::envoy::service::discovery::v3 as wire;
use tulle_xds::session::client::TICK_EVERY;

use crate::discovery::saved::SavedState;
use crate::discovery::session::{Learnt, Session, Wish};
use crate::discovery::transport::{Stream, Target, open};

/// Requests that wait for the transport.
const REQUESTS_QUEUED: usize = 64;

/// Runs the session for as long as the process lives. `changed` is told every batch of changes.
#[derive(Debug)]
pub struct Discovery {
    /// Where the control plane is.
    pub target: Target,
    /// Who this proxy is.
    pub node: core::Node,
    /// The session.
    pub session: Session,
    /// Where last-good resources are kept.
    pub state: Option<SavedState>,
}

impl Discovery {
    /// Connects, asks, learns; never comes back.
    pub async fn run(mut self, mut asked: mpsc::Receiver<Needed>, changed: impl Fn(Learnt)) {
        self.restore(&changed);
        let mut stream: Option<Stream> = None;
        let mut connect_at = Some(tokio::time::Instant::now());
        let mut ticks = tokio::time::interval(TICK_EVERY);
        loop {
            let wishes = tokio::select! {
                Some(need) = asked.recv() => self.session.needed(need, Instant::now()),
                message = next(&mut stream) => match message {
                    Some(response) => self.session.response(response, Instant::now()),
                    None => {
                        stream = None;
                        self.session.disconnected(Instant::now())
                    }
                },
                () = sleep_until(connect_at) => {
                    connect_at = None;
                    match open(&self.target, REQUESTS_QUEUED).await {
                        Ok(opened) => {
                            stream = Some(opened);
                            tracing::info!(control = %self.target, "connected");
                            self.session.connected(Instant::now())
                        }
                        Err(error) => {
                            tracing::warn!(control = %self.target, %error, "cannot connect");
                            self.session.disconnected(Instant::now())
                        }
                    }
                }
                _ = ticks.tick() => {
                    self.save();
                    self.session.tick(Instant::now())
                }
            };
            for wish in wishes {
                match wish {
                    Wish::Send(request) => {
                        if !self.send(&stream, *request) {
                            stream = None;
                        }
                    }
                    Wish::Connect(after) => {
                        connect_at = Some(tokio::time::Instant::now() + after);
                    }
                    Wish::Close(reason) => {
                        tracing::warn!(reason, "the stream to the control plane is ended");
                        stream = None;
                    }
                    Wish::Change(learnt) => changed(learnt),
                }
            }
        }
    }

    /// Serves what an earlier process kept until the control plane says otherwise.
    fn restore(&mut self, changed: &impl Fn(Learnt)) {
        let Some(state) = &self.state else { return };
        match state.load() {
            Ok(saved) if saved.is_empty() => {}
            Ok(saved) => {
                tracing::info!(resources = saved.len(), "serving what was kept");
                let changes = self.session.restore(saved, Instant::now());
                changed(Learnt { changes, versions: Vec::new() });
            }
            Err(error) => tracing::warn!(%error, "what was kept cannot be read"),
        }
    }

    fn save(&mut self) {
        let Some(state) = &self.state else { return };
        let Some(saved) = self.session.to_save() else { return };
        if let Err(error) = state.save(&saved) {
            tracing::warn!(%error, "what is served cannot be kept");
        }
    }

    /// Hands a request to the transport; `false` if it takes no more.
    fn send(&self, stream: &Option<Stream>, mut request: wire::DeltaDiscoveryRequest) -> bool {
        if request.node.is_some() {
            request.node = Some(self.node.clone());
        }
        stream.as_ref().is_some_and(|stream| stream.requests.try_send(request).is_ok())
    }
}

/// The next response; `None` when the stream ended. Never comes back without a stream.
async fn next(stream: &mut Option<Stream>) -> Option<wire::DeltaDiscoveryResponse> {
    match stream {
        None => std::future::pending().await,
        Some(stream) => match stream.responses.message().await {
            Ok(message) => message,
            Err(status) => {
                tracing::warn!(%status, "the stream to the control plane broke");
                None
            }
        },
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
