//! The connections of the admin API: as few as every admin server has, none for long without a
//! whole request. Answers may take their time: some wait for proxies.

use std::convert::Infallible;
use std::io;
use std::pin::pin;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::codegen::Service;
use tulle_runtime::admin::{Door, MAX_BODY_BYTES, REQUEST_TIMEOUT};

use super::Failure;
use crate::stop::Stop;

/// Serves `router` until `stop`; then ends each connection after the answer it waits for.
///
/// # Errors
/// The listener is broken for good.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: Stop) -> io::Result<()> {
    let door = Door::new(listener);
    let mut connections = JoinSet::new();
    loop {
        let (stream, place) = tokio::select! {
            accepted = door.next() => accepted?,
            Some(_) = connections.join_next() => continue,
            () = stop.requested() => break,
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, router, stop).await;
            drop(place);
        });
    }
    drop(door);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn serve_connection(stream: TcpStream, router: Router, stop: Stop) {
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move { Service::call(&mut router, request).await }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.requested() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection");
    }
}

/// Reads a request to its end before it is answered: in time, and no longer than allowed.
pub(super) async fn read_body(request: Request, next: Next) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(REQUEST_TIMEOUT, to_bytes(body, MAX_BODY_BYTES));
    let refused = match read.await {
        Ok(Ok(body)) => return Ok(next.run(Request::from_parts(head, Body::from(body))).await),
        Ok(Err(_)) => Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {MAX_BODY_BYTES} bytes, or did not come to its end"),
        ),
        Err(_) => Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request did not come to its end in {} s", REQUEST_TIMEOUT.as_secs()),
        ),
    };
    Ok(refused.into_response())
}
