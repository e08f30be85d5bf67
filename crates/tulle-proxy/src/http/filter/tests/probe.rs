//! A filter that tests write: it does what its play says and tells what it saw.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tulle_model::head::{RequestHead, ResponseHead};
use tulle_model::name::ClusterName;

use crate::http::body::{Body, Piece, Transformer};
use crate::http::codec::abort::Abort;
use crate::http::filter::callout::Question;
use crate::http::filter::context::FilterContext;
use crate::http::filter::{BodyWish, Verdict};
use crate::http::reply::LocalReply;
use crate::record::Record;

/// What a probe does at one of its two sides.
#[derive(Clone, Debug, Default)]
pub enum Act {
    /// Nothing.
    #[default]
    Pass,
    /// It waits so long.
    Wait(Duration),
    /// It asks this cluster for this path, and writes the answer's body to `x-asked`.
    Ask(ClusterName, &'static str),
    /// It answers.
    Reply(u16),
    /// It sends the request to another path.
    Reroute(&'static str),
    /// It puts this in the place of the held body.
    Replace(&'static str),
}

/// How a probe wants a body.
#[derive(Clone, Copy, Debug, Default)]
pub enum Wish {
    /// Not at all.
    #[default]
    Pass,
    /// At most so many bytes.
    Buffer(u64),
    /// Each piece twice, in angle brackets.
    Transform,
}

/// What a probe does, and where it tells what it saw.
#[derive(Debug, Default)]
pub struct Play {
    /// Its name in what is told.
    pub name: &'static str,
    /// How it wants the request's body.
    pub request_body: Wish,
    /// What it does with the request.
    pub request: Act,
    /// How it wants the answer's body.
    pub response_body: Wish,
    /// What it does with the answer.
    pub response: Act,
    /// What the probes of a test saw.
    pub seen: Rc<RefCell<Vec<String>>>,
}

/// A probe at work on one request.
#[derive(Debug)]
pub struct Probe {
    play: Rc<Play>,
}

impl Probe {
    /// One that plays `play`.
    pub fn new(play: &Rc<Play>) -> Self {
        Self { play: Rc::clone(play) }
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        self.play.seen.borrow_mut().push(format!("{} {what}", self.play.name));
    }

    pub fn request_body(&mut self, _: &RequestHead) -> BodyWish {
        wish(self.play.request_body)
    }

    pub async fn request_head(
        &mut self,
        cx: &mut FilterContext<'_>,
    ) -> Result<Verdict, LocalReply> {
        let path = String::from_utf8_lossy(cx.request.path()).into_owned();
        self.tell(format_args!("request {path}{}", held(cx)));
        let verdict = self.act(&self.play.request, cx).await;
        self.tell(format_args!("request done"));
        verdict
    }

    pub fn response_body(&mut self, _: &ResponseHead) -> BodyWish {
        wish(self.play.response_body)
    }

    pub async fn response_head(&mut self, cx: &mut FilterContext<'_>) -> Result<(), LocalReply> {
        self.tell(format_args!("response {}{}", cx.response.status, held(cx)));
        self.act(&self.play.response, cx).await.map(drop)
    }

    pub fn on_end(self, record: &mut Record) {
        self.tell(format_args!("end {}", record.flags));
    }

    async fn act(&self, act: &Act, cx: &mut FilterContext<'_>) -> Result<Verdict, LocalReply> {
        match act {
            Act::Pass => {}
            Act::Wait(pause) => cx.clock.wait(*pause).await,
            Act::Ask(cluster, path) => {
                let asked = ask(cluster, path, cx).await;
                let headers = match cx.response.status {
                    0 => &mut cx.request.headers,
                    _ => &mut cx.response.headers,
                };
                headers.set("x-asked", asked.as_bytes()).expect("a value");
            }
            Act::Reply(status) => {
                return Err(LocalReply::new(*status, "probe", self.play.name));
            }
            Act::Reroute(path) => {
                cx.request.set_path(path.as_bytes()).expect("a path");
                return Ok(Verdict::Reroute);
            }
            Act::Replace(text) => {
                cx.held.as_mut().expect("held").replace(text.as_bytes());
            }
        }
        Ok(Verdict::Continue)
    }
}

fn wish(wish: Wish) -> BodyWish {
    match wish {
        Wish::Pass => BodyWish::Pass,
        Wish::Buffer(limit) => BodyWish::Buffer { limit },
        Wish::Transform => BodyWish::Transform(Transformer::Rewrite(Rewrite::default())),
    }
}

fn held(cx: &FilterContext<'_>) -> String {
    cx.held.as_ref().map_or(String::new(), |held| format!(" holding {}", held.bytes().len()))
}

async fn ask(cluster: &ClusterName, path: &str, cx: &FilterContext<'_>) -> String {
    let mut head = RequestHead::new();
    head.set_path(path.as_bytes()).expect("a path");
    head.set_authority(b"asked.test").expect("a name");
    let question = Question {
        cluster,
        head: &head,
        body: Bytes::from_static(b"?"),
        timeout: Duration::from_secs(5),
        limit: 64,
    };
    match cx.callout.ask(&question).await {
        Ok(reply) => format!("{} {}", reply.head.status, String::from_utf8_lossy(&reply.body)),
        Err(failure) => failure.to_string(),
    }
}

/// Gives each piece twice, in angle brackets.
#[derive(Debug, Default)]
pub struct Rewrite {
    out: Vec<u8>,
}

impl Rewrite {
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Body<'_>,
    ) -> Poll<Result<Piece, Abort>> {
        let piece = ready!(source.poll_next(cx))?;
        self.out.clear();
        if piece == Piece::Data {
            for part in [b"<", source.data(), source.data(), b">"] {
                self.out.extend_from_slice(part);
            }
        }
        Poll::Ready(Ok(piece))
    }

    pub fn data(&self) -> &[u8] {
        &self.out
    }
}
