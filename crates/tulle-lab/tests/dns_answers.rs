//! What a server of names answers decides about the endpoints of a `STRICT_DNS` cluster: that a
//! name is gone, or has no address, empties it; a failure to answer changes nothing. In the stock
//! Envoy and in `tulle-proxy`, with a server of names and a `/etc/resolv.conf` of the test's own.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::net::UdpSocket;
use tulle_lab::backend::http1::Backend;
use tulle_lab::client::http1::{Client, status_of};
use tulle_lab::deadline::{SOON, until};
use tulle_lab::envoy::Program;
use tulle_lab::netns::Network;
use tulle_lab::process::Process;

/// Where the proxy listens and where it is asked for its numbers.
const PROXY: u16 = 8080;
const ADMIN: u16 = 8081;
const QUESTIONS: &str = "127.0.0.1:53";
/// Longer than a resolver waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Binds the files of `$0` over those of the machine, for itself alone, and becomes the program.
const IN_ITS_OWN_ETC: &str = "mount --bind $0/resolv.conf /etc/resolv.conf && \
    mount --bind $0/nsswitch.conf /etc/nsswitch.conf && exec \"$@\"";

/// What is answered. The numbers are those of RFC 1035 §4.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Address,
    NoAddress,
    ServerFailure,
    NoSuchName,
    Silence,
}

/// A server of names that gives every name the same answer.
struct Names {
    answer: Cell<Answer>,
    asked: Cell<u32>,
}

impl Names {
    async fn serve(&self) -> Result<()> {
        let socket = UdpSocket::bind(QUESTIONS).await?;
        let mut question = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut question).await?;
            self.asked.set(self.asked.get() + 1);
            if let Some(answer) = reply(&question[..length], self.answer.get()) {
                socket.send_to(&answer, from).await?;
            }
        }
    }

    /// Answers so from now on, and waits until that was heard several times.
    async fn switch(&self, answer: Answer) {
        self.answer.set(answer);
        let before = self.asked.get();
        // Whoever gets no answer asks again after seconds only.
        let (several, limit) = match answer {
            Answer::Silence => (2, PATIENCE),
            _ => (6, SOON),
        };
        let heard = || async { (self.asked.get() >= before + several).then_some(()) };
        until("questions", limit, heard).await.unwrap();
    }
}

/// The answer to a question; `None` for silence.
fn reply(question: &[u8], answer: Answer) -> Option<Vec<u8>> {
    const A: [u8; 2] = [0, 1];
    let name = question.get(12..)?;
    let end = 12 + name.iter().position(|byte| *byte == 0)? + 5;
    let is_a = question.get(end - 4..end - 2)? == A;
    let code = match answer {
        Answer::Address | Answer::NoAddress => 0,
        Answer::ServerFailure => 2,
        Answer::NoSuchName => 3,
        Answer::Silence => return None,
    };
    let has_address = answer == Answer::Address && is_a;
    let counts = [0, 1, 0, u8::from(has_address), 0, 0, 0, 0];
    let mut reply = [&question[..2], &[0x81, 0x80 | code], &counts, &question[12..end]].concat();
    if has_address {
        // The name of the question, an address, of class IN, for no time.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(reply)
}

fn config(backend: u16) -> String {
    let ports = [("{{proxy}}", PROXY), ("{{admin}}", ADMIN), ("{{backend}}", backend)];
    ports.into_iter().fold(include_str!("dns_answers.yaml").to_owned(), |text, (name, port)| {
        text.replace(name, &port.to_string())
    })
}

/// Starts the program with a resolver's files of its own.
fn start(program: Program<'_>, backend: u16, directory: &Path) -> Result<Process> {
    // One server, asked again at once: what it does not answer is a failure soon.
    fs::write(
        directory.join("resolv.conf"),
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )?;
    fs::write(directory.join("nsswitch.conf"), "hosts: dns\n")?;
    let file = directory.join("config.yaml");
    fs::write(&file, config(backend))?;
    let wanted = program.serve(&file)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", IN_ITS_OWN_ETC]).arg(directory);
    command.arg(wanted.get_program()).args(wanted.get_args());
    Process::spawn(program.name(), command, directory)
}

async fn becomes(status: u16, why: &str, process: &Process) {
    let address = ([127, 0, 0, 1], PROXY).into();
    let asked = || async { status_of(address, "/", SOON).await.filter(|found| *found == status) };
    let found = until(why, SOON, asked).await;
    found.map_err(|error| format!("{error:#}\n{}", process.tail())).unwrap();
}

async fn answers_decide(program: Program<'static>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let names = Rc::new(Names { answer: Cell::new(Answer::Address), asked: Cell::new(0) });
    let backend = Backend::start().await?;
    let mut process = start(program, backend.address().port(), directory.path())?;
    let asked = Rc::clone(&names);
    let talk = async {
        process.listening(&[PROXY], SOON).await.unwrap();
        becomes(200, "an address", &process).await;
        for failure in [Answer::ServerFailure, Answer::Silence] {
            asked.switch(failure).await;
            becomes(200, "the address that was known", &process).await;
        }
        for nothing in [Answer::NoSuchName, Answer::NoAddress] {
            asked.switch(nothing).await;
            becomes(503, "no endpoint", &process).await;
            asked.switch(Answer::Address).await;
            becomes(200, "an address again", &process).await;
        }
        let admin = ([127, 0, 0, 1], ADMIN).into();
        let numbers = Client::connect(admin).await.unwrap();
        let numbers = numbers
            .patient(SOON)
            .get(&format!("127.0.0.1:{ADMIN}"), "/stats/prometheus")
            .await
            .unwrap();
        let numbers = String::from_utf8_lossy(&numbers.body).into_owned();
        let refused = "envoy_cluster_upstream_cx_none_healthy{envoy_cluster_name=\"named\"} ";
        let counted = numbers.lines().find_map(|line| line.strip_prefix(refused));
        assert!(counted.is_some_and(|count| count != "0"), "{counted:?} in {numbers}");
    };
    tokio::select! {
        served = names.serve() => served,
        () = talk => Ok(()),
    }
}

async fn check(program: Program<'static>) {
    let network = Network::create("names").unwrap();
    let alone = network.plug("alone", &[]).unwrap();
    alone.enter(move || answers_decide(program)).await.unwrap();
}

#[tokio::test]
async fn an_answer_without_addresses_empties_envoys_cluster_and_a_failure_does_not() {
    check(Program::Envoy).await;
}

#[tokio::test]
async fn an_answer_without_addresses_empties_a_cluster_and_a_failure_does_not() {
    check(Program::Tulle).await;
}
