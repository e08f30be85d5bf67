//! One row: what is sent, and the verdict — status, what became of the connection, and what the
//! upstream saw. Each is checked at the real process, and after each a stranger is served.

use std::time::Duration;

use tulle_lab::backend::http1::{Answer, Received};
use tulle_lab::client::http1::{Client, Fate};
use tulle_lab::message::{End, Message};
use tulle_lab::oracle::Stage;

/// Fields the proxy adds to every request; they are other tables' business.
const ADDED: [&str; 4] =
    ["x-request-id", "x-envoy-expected-rq-timeout-ms", "x-forwarded-proto", "x-envoy-internal"];
/// What a refused request must not take longer than.
const PATIENCE: Duration = Duration::from_secs(8);
/// The request of the stranger that is served after each row.
const STRANGER: &str = "GET /stranger";

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// The sentence of the design that it proves ([`super::items`]).
    pub item: &'static str,
    /// What is sent, in one go.
    pub sent: Vec<u8>,
    /// The listener it is sent to.
    pub at: &'static str,
    /// The method of the request.
    pub method: &'static str,
    /// What the upstream answers; `200 ok` without.
    pub answers: Vec<Answer>,
    verdict: &'static str,
    upstream: Vec<&'static str>,
}

/// A request of these bytes, refused by default with 400 and a closed connection.
pub fn row(item: &'static str, sent: impl AsRef<[u8]>) -> Row {
    Row {
        item,
        sent: sent.as_ref().to_vec(),
        at: "http",
        method: "GET",
        answers: Vec::new(),
        verdict: "400 closed",
        upstream: Vec::new(),
    }
}

/// A plain request whose upstream answers with these bytes.
pub fn answered(item: &'static str, answer: Answer) -> Row {
    row(item, "GET /up HTTP/1.1\r\nhost: h\r\n\r\n").answer(answer).saw("GET /up; host: h")
}

impl Row {
    pub fn at(mut self, listener: &'static str) -> Self {
        self.at = listener;
        self
    }

    /// The method of the request, where the length of the answer depends on it.
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// Status and fate: `200 kept`, `400 closed`, `200 cut`.
    pub fn is(mut self, verdict: &'static str) -> Self {
        self.verdict = verdict;
        self
    }

    /// One request that the upstream saw: `POST /a; host: h; content-length: 1; body "x"`;
    /// `*` stands for the rest.
    pub fn saw(mut self, request: &'static str) -> Self {
        self.upstream.push(request);
        self
    }

    /// Plays the row; what differs from its verdict.
    pub async fn play(&self, stage: &Stage) -> Result<(), String> {
        let upstream = stage.http1("a").map_err(|error| error.to_string())?;
        upstream.script(self.answers.clone());
        let verdict = match self.client(stage).await {
            Ok(verdict) => verdict,
            Err(error) => format!("no verdict: {error:#}"),
        };
        let stranger = stranger(stage).await;
        let expected = self.upstream.len() + 1;
        let seen = upstream.received_within(expected, PATIENCE).await;
        let mut seen: Vec<String> =
            seen.unwrap_or_else(|_| upstream.so_far()).iter().map(describe).collect();
        // What is cut off may be noticed late.
        seen.sort_by_key(|request| request.starts_with(STRANGER));
        let mut wanted: Vec<String> = self.upstream.iter().map(ToString::to_string).collect();
        wanted.push(format!("{STRANGER}; host: h"));
        let as_wanted = seen.len() == wanted.len()
            && seen.iter().zip(&wanted).all(|(seen, wanted)| is_like(seen, wanted));
        if verdict == self.verdict && as_wanted && stranger == "200" {
            return Ok(());
        }
        let sent: String = self.sent.escape_ascii().to_string().chars().take(160).collect();
        Err(format!(
            "{}: {sent}\n  verdict  {verdict}\n  expected {}\n  upstream {seen:#?}\n  expected \
             {wanted:#?}\n  stranger {stranger}\n",
            self.item, self.verdict
        ))
    }

    async fn client(&self, stage: &Stage) -> anyhow::Result<String> {
        let mut client = Client::connect(stage.listener(self.at)?).await?.patient(PATIENCE);
        client.send(&self.sent).await;
        let response = client.response(self.method).await?.response;
        let status = response.status();
        let fate = match response.end {
            End::Complete => match client.fate("h").await? {
                Fate::Kept => "kept",
                Fate::Closed => "closed",
                Fate::Reset => "reset",
                Fate::OutOfStep => "out of step",
            },
            End::Cut | End::Nothing => "cut",
            End::Reset | End::ResetBefore => "reset",
            End::Malformed(_) => "malformed",
        };
        Ok(format!("{status} {fate}"))
    }
}

/// Whether they are equal, as far as `wanted` goes: `*` ends it.
pub fn is_like(seen: &str, wanted: &str) -> bool {
    wanted.strip_suffix('*').map_or(seen == wanted, |start| seen.starts_with(start))
}

/// Somebody else's request on a connection of its own, at once after the row.
pub async fn stranger(stage: &Stage) -> String {
    let asking = async {
        let mut client = Client::connect(stage.listener("http")?).await?;
        let answer = client.get("h", "/stranger").await?;
        anyhow::Ok(answer.status().to_string())
    };
    asking.await.unwrap_or_else(|error| error.to_string())
}

pub fn describe(received: &Received) -> String {
    let mut text = message(&received.request);
    if !received.tunnelled.is_empty() {
        text += &format!("; tunnelled \"{}\"", received.tunnelled.escape_ascii());
    }
    text
}

/// A request as one line, without what the proxy always adds.
fn message(request: &Message) -> String {
    let mut parts = vec![request.start.trim_end_matches(" HTTP/1.1").to_owned()];
    let fields = request.headers.iter();
    let own = fields.filter(|(name, _)| !ADDED.contains(&name.to_ascii_lowercase().as_str()));
    parts.extend(own.map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase())));
    if !request.body.is_empty() {
        parts.push(format!("body \"{}\"", request.body.escape_ascii()));
    }
    parts.extend(request.trailers.iter().map(|(name, value)| format!("trailer {name}: {value}")));
    if request.end != End::Complete {
        parts.push(format!("{:?}", request.end).to_lowercase());
    }
    parts.join("; ")
}
