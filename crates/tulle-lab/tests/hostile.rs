//! What hostile and broken peers send, and the verdict: one row for each, at the real
//! `tulle-proxy` on real sockets, with what its upstream saw.
//!
//! [`items`] lists everything a peer may do that the design names; an item without a row fails.
//! The syntax of single bytes has its own tables beside the codec; here each item is proved
//! where its peer stands.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/attacks.rs"]
mod attacks;
#[path = "hostile/edge.rs"]
mod edge;
#[path = "hostile/edge_rows.rs"]
mod edge_rows;
#[path = "hostile/framing.rs"]
mod framing;
#[path = "hostile/heads.rs"]
mod heads;
#[path = "hostile/held.rs"]
mod held;
#[path = "hostile/http2.rs"]
mod http2;
#[path = "hostile/items.rs"]
mod items;
#[path = "hostile/lifecycle.rs"]
mod lifecycle;
#[path = "hostile/row.rs"]
mod row;
#[path = "hostile/tls.rs"]
mod tls;

use row::Row;
use tulle_lab::envoy::Program;
use tulle_lab::oracle::Stage;

const CONFIG: &str = include_str!("hostile/hostile.yaml");

async fn stage() -> Stage {
    Stage::open(Program::Tulle, CONFIG).await.unwrap()
}

async fn play(rows: Vec<Row>) {
    let stage = stage().await;
    let mut wrong = Vec::new();
    for row in &rows {
        wrong.extend(row.play(&stage).await.err());
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[tokio::test]
async fn request_framing() {
    play(framing::rows()).await;
}

#[tokio::test]
async fn chunks() {
    play(framing::chunk_rows()).await;
}

#[tokio::test]
async fn request_heads() {
    play(heads::rows()).await;
}

#[tokio::test]
async fn edges() {
    play(edge_rows::rows()).await;
}

#[tokio::test]
async fn http2_requests() {
    let stage = stage().await;
    let cases = http2::cases();
    let mut wrong = Vec::new();
    for case in &cases {
        wrong.extend(case.play(&stage).await.err());
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    http2::cut_in_body(&stage).await;
    http2::trailers_between_http2_peers(&stage).await;
    http2::answers_from_http2_peers(&stage).await;
}

#[tokio::test]
async fn answers_from_upstream() {
    play(answers::rows()).await;
}

#[test]
fn every_item_has_a_row() {
    items::check();
}
