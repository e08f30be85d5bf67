//! What hostile and broken peers send, and the verdict: one row for each, at the real
//! `tulle-proxy` on real sockets, with what its upstream saw.
//!
//! [`items`] lists everything a peer may do that the design names; an item without a row fails.
//! The syntax of single bytes has its own tables beside the codec; here each item is proved
//! where its peer stands.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/framing.rs"]
mod framing;
#[path = "hostile/heads.rs"]
mod heads;
#[path = "hostile/items.rs"]
mod items;
#[path = "hostile/row.rs"]
mod row;

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
async fn answers_from_upstream() {
    play(answers::rows()).await;
}
