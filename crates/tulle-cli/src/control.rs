//! The control plane's admin API, asked over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

/// Longest time for one answer: a proxy behind the control plane has 10 s of it.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Where the control plane is asked.
#[derive(Debug, Clone, Args)]
pub struct Control {
    /// Admin address of the control plane.
    #[arg(long = "control", value_name = "HOST:PORT", default_value = "127.0.0.1:15014")]
    pub address: String,
}

impl Control {
    /// The answer to `path`, from JSON.
    ///
    /// # Errors
    /// Nobody answers, or the answer is an error.
    pub fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask_within(path, ANSWER_LIMIT)
    }

    /// The same with a limit of its own, for what takes its time.
    ///
    /// # Errors
    /// Nobody answers in time, or the answer is an error.
    pub fn ask_within<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asking = async { tokio::time::timeout(limit, self.get(path)).await };
        let (status, body) = runtime
            .block_on(asking)
            .with_context(|| format!("the control plane at {} does not answer", self.address))??;
        if status != StatusCode::OK {
            bail!("{}", said(status, &body));
        }
        serde_json::from_slice(&body).with_context(|| {
            format!("{} is not the admin address of a control plane", self.address)
        })
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Bytes)> {
        let missing = || {
            let help = "is it running? --control gives its admin address";
            format!("the control plane at {} cannot be reached ({help})", self.address)
        };
        let found = tokio::net::lookup_host(&*self.address).await.with_context(missing)?;
        let address = found.into_iter().next().with_context(missing)?;
        let stream = TcpStream::connect(address).await.with_context(missing)?;
        self.exchange(stream, address, path)
            .await
            .with_context(|| format!("{} does not speak HTTP", self.address))
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        path: &str,
    ) -> Result<(StatusCode, Bytes)> {
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The address and not the name: the control plane refuses names other than localhost.
        let request = Request::builder().uri(path).header("host", address.to_string());
        let request = request.body(Empty::<Bytes>::new())?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            // The connection may end before the answer is put together.
            _ = connection => answered.await,
        }
    }
}

/// What an answer that is no success says.
fn said(status: StatusCode, body: &[u8]) -> String {
    let error = serde_json::from_slice::<serde_json::Value>(body).ok();
    let error = error.and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
    error.unwrap_or_else(|| format!("the control plane answers {status}"))
}

/// A text as one part of a query.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// Namespace and name of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl std::str::FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !part.is_empty() && part.bytes().all(plain)
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                Ok(Workload { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("`{text}` is not a workload; write NAMESPACE/NAME")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_two_names() {
        assert!("shop/order-1.a".parse::<Workload>().is_ok());
        for wrong in ["", "order", "/order", "shop/", "a/b/c", "a b/c", "a/..%2f?"] {
            assert!(wrong.parse::<Workload>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("http://a/?b=c d&ü"), "http%3A%2F%2Fa%2F%3Fb%3Dc%20d%26%C3%BC");
    }
}
