//! The HTTP/1 codec against llhttp in strict mode, an implementation that shares nothing with it:
//! every row of the hostile tables and many small changes of each. What we accept, llhttp accepts
//! and frames the same; the exceptions are listed. What we refuse, it may accept: we are stricter.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "of the tables only the bytes are used")]

#[path = "hostile/answers.rs"]
mod answers;
#[path = "hostile/edge_rows.rs"]
mod edge_rows;
#[path = "hostile/framing.rs"]
mod framing;
#[path = "hostile/heads.rs"]
mod heads;
#[path = "hostile/row.rs"]
mod row;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tulle_lab::deadline::within;
use tulle_model::head::{Headers, RequestHead};
use tulle_proxy::http::codec::h1::{ChunkDecoder, ChunkStep, CodecSettings, Framing, HeadParser};

/// Changed copies of each row.
const CHANGES: usize = 120;
/// Inputs larger than this are not changed: one byte more or less changes nothing in them.
const CHANGED_BYTES: usize = 2000;

/// Why we accept what llhttp refuses, by llhttp's word for it.
const DELIBERATE: [(&str, &str); 1] = [(
    "HPE_INVALID_METHOD",
    "llhttp knows a closed list of methods; RFC 9110 §9.1 lets every token be one",
)];

/// What a reader made of the first message.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Complete(Vec<u8>),
    Refused(String),
    /// It waits for more.
    Open,
    /// Not a message that both sides frame: an upgrade or CONNECT.
    Tunnel,
}

fn ours(bytes: &[u8]) -> Read {
    let settings = CodecSettings::default();
    let mut head = RequestHead::new();
    let parsed = match HeadParser::new().parse_request(bytes, &mut head, &settings) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Read::Open,
        Err(violation) => return Read::Refused(violation.to_string()),
    };
    let rest = &bytes[parsed.head_len..];
    match parsed.framing {
        Framing::None => Read::Complete(Vec::new()),
        Framing::Length(length) => {
            let body = usize::try_from(length).ok().and_then(|length| rest.get(..length));
            body.map_or(Read::Open, |body| Read::Complete(body.to_vec()))
        }
        Framing::Chunked => chunks(rest, &settings),
        Framing::Tunnel | Framing::UntilClose => Read::Tunnel,
    }
}

fn chunks(mut rest: &[u8], settings: &CodecSettings) -> Read {
    let (mut decoder, mut trailers, mut body) = (ChunkDecoder::new(), Headers::new(), Vec::new());
    loop {
        match decoder.step(rest, &mut trailers, settings) {
            Ok(ChunkStep::Data { skip, len }) => {
                body.extend_from_slice(&rest[skip..skip + len]);
                rest = &rest[skip + len..];
            }
            Ok(ChunkStep::NeedMore) => return Read::Open,
            Ok(ChunkStep::End { .. }) => return Read::Complete(body),
            Err(violation) => return Read::Refused(violation.to_string()),
        }
    }
}

async fn llhttp(inputs: &[Vec<u8>]) -> Vec<Read> {
    let mut text = String::new();
    for input in inputs {
        input.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    let mut child = Command::new("node")
        .args(["--no-deprecation", "-e", include_str!("hostile/llhttp.js")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is needed: it carries llhttp");
    let mut stdin = child.stdin.take().unwrap();
    let feeding = async move { stdin.write_all(text.as_bytes()).await };
    let running = async { tokio::join!(feeding, child.wait_with_output()) };
    let (fed, output) = within("node", std::time::Duration::from_secs(120), running).await.unwrap();
    fed.unwrap();
    let read: Vec<Read> =
        String::from_utf8(output.unwrap().stdout).unwrap().lines().map(parse).collect();
    assert_eq!(read.len(), inputs.len());
    read
}

fn parse(line: &str) -> Read {
    let mut words = line.split(' ');
    match words.next() {
        Some("complete") => {
            let hex = words.next().unwrap_or_default().as_bytes();
            let byte =
                |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            Read::Complete(hex.chunks(2).map(byte).collect())
        }
        Some("refused") => Read::Refused(words.next().unwrap_or_default().to_owned()),
        _ => Read::Open,
    }
}

/// A generator that gives the same numbers every time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// One to three bytes replaced, left out, put in or doubled.
fn changed(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const BYTES: &[u8] = b"\r\n \t\0\x0b\x7f\x80:;,=\"\\/+-_.0129afxFG\rchunked\n";
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        let byte = BYTES[numbers.below(BYTES.len())];
        match numbers.below(4) {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            _ => bytes.insert(at, bytes[at]),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

fn inputs() -> Vec<Vec<u8>> {
    let tables = [framing::rows(), framing::chunk_rows(), heads::rows(), edge_rows::rows()];
    let rows: Vec<Vec<u8>> = tables.into_iter().flatten().map(|row| row.sent).collect();
    let mut numbers = Numbers(0x5eed_0017);
    let small: Vec<_> = rows.iter().filter(|row| row.len() < CHANGED_BYTES).cloned().collect();
    let changes = small.iter().flat_map(|row| std::iter::repeat_n(row, CHANGES));
    let changes: Vec<_> = changes.map(|row| changed(row, &mut numbers)).collect();
    [rows, changes].concat()
}

#[tokio::test]
async fn what_we_accept_llhttp_accepts_and_frames_the_same() {
    let inputs = inputs();
    let theirs = llhttp(&inputs).await;
    let (mut wrong, mut known) = (Vec::new(), BTreeMap::<&str, usize>::new());
    let (mut both, mut stricter) = (0, 0);
    for (input, theirs) in inputs.iter().zip(&theirs) {
        let ours = ours(input);
        let reason = match (&ours, theirs) {
            (Read::Tunnel | Read::Refused(_), Read::Complete(_)) => {
                stricter += 1;
                continue;
            }
            (Read::Tunnel | Read::Refused(_), _) => continue,
            (ours, theirs) if ours == theirs => {
                both += usize::from(matches!(ours, Read::Complete(_)));
                continue;
            }
            // A head or body that llhttp gives up before its end is none that we accepted.
            (Read::Open, Read::Refused(_)) => continue,
            (_, Read::Refused(reason)) => reason.as_str(),
            _ => "framed differently",
        };
        match DELIBERATE.iter().find(|(word, _)| *word == reason) {
            Some((word, _)) => *known.entry(word).or_default() += 1,
            None => {
                wrong.push(format!("{}\n  ours {ours:?}, llhttp {theirs:?}", input.escape_ascii()))
            }
        }
    }
    println!(
        "{} inputs: {both} framed the same, {stricter} only we refuse, {known:?}",
        inputs.len()
    );
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    assert!(both > 500, "{both} messages are too few to prove anything");
    assert_eq!(known.len(), DELIBERATE.len(), "a difference is gone: strike it from the list");
}
