use super::{Answer, Backend, Step};
use crate::client::http1::{Client, Fate};
use crate::client::http2::{self, Http2Request, StreamEnd};
use crate::client::tcp::Close;
use crate::message::End;

#[tokio::test]
async fn the_script_is_answered_in_order_and_everything_is_recorded() {
    let backend = Backend::start().await.unwrap();
    backend.script([Answer::status(503, "no"), Answer::raw("HTTP/1.1 204 No\r\na: 1\r\n\r\n")]);
    let mut client = Client::connect(backend.address()).await.unwrap();
    client.send(b"POST /a HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\n\r\nabc").await;
    let first = client.response("POST").await.unwrap().response;
    let second = client.get("h", "/b").await.unwrap();
    assert_eq!((first.status(), first.text().as_str(), second.status()), (503, "no", 204));
    assert_eq!(client.fate("h").await.unwrap(), Fate::Kept);
    let received = backend.received(2).await.unwrap();
    let targets: Vec<_> = received.iter().map(|r| r.request.target().to_owned()).collect();
    assert_eq!(targets, ["/a", "/b"], "the probe is not recorded");
    assert_eq!(received[0].request.text(), "abc");
    assert_eq!(received[0].request.headers[0], ("Host".to_owned(), "h".to_owned()));
}

#[tokio::test]
async fn cuts_resets_and_closes_are_told_apart() {
    let backend = Backend::start().await.unwrap();
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc";
    for (step, end) in [(Step::Close, End::Cut), (Step::Reset, End::Reset)] {
        backend.script([Answer::raw(cut).then(step)]);
        let mut client = Client::connect(backend.address()).await.unwrap();
        assert_eq!(client.get("h", "/").await.unwrap().end, end);
    }
    backend.script([Answer::status(200, "").then(Step::Close)]);
    let mut client = Client::connect(backend.address()).await.unwrap();
    client.get("h", "/").await.unwrap();
    assert_eq!(client.read_to_end().await.unwrap(), (Vec::new(), Close::End));
}

#[tokio::test]
async fn a_request_that_is_cut_is_recorded_as_cut() {
    let backend = Backend::start().await.unwrap();
    let mut client = Client::connect(backend.address()).await.unwrap();
    client.send(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc").await;
    client.half_close().await;
    let received = backend.received(1).await.unwrap();
    assert_eq!((&received[0].request.end, received[0].request.text().as_str()), (&End::Cut, "abc"));
}

#[tokio::test]
async fn a_tunnel_echoes_and_is_recorded() {
    let backend = Backend::start().await.unwrap();
    backend.script([Answer::raw("HTTP/1.1 101 S\r\nupgrade: x\r\n\r\n").then(Step::Echo)]);
    let mut client = Client::connect(backend.address()).await.unwrap();
    assert_eq!(client.get("h", "/").await.unwrap().status(), 101);
    client.send(b"ping").await;
    assert_eq!(client.read_exactly(4).await.unwrap(), b"ping");
    client.half_close().await;
    assert_eq!(backend.received(1).await.unwrap()[0].tunnelled, b"ping");
}

#[tokio::test]
async fn http2_carries_trailers_and_resets_both_ways() {
    let backend = crate::backend::http2::Backend::start().await.unwrap();
    backend.script([
        crate::backend::http2::Answer::grpc(b"hello", "0"),
        crate::backend::http2::Answer::reset(8),
    ]);
    let client = http2::Client::connect(backend.address()).await.unwrap();
    let call = Http2Request::grpc("h", "/s/m", b"hi");
    let answered = client.exchange(&call).await.unwrap();
    assert_eq!((answered.status, answered.grpc_status()), (200, Some("0")));
    assert_eq!(answered.body, http2::grpc_frame(b"hello"));
    assert_eq!(client.exchange(&call).await.unwrap().end, StreamEnd::Reset(8));
    let received = backend.received(2).await.unwrap();
    assert_eq!(received[0].body, http2::grpc_frame(b"hi"));
    assert_eq!(received[0].uri, "http://h/s/m");
}
