//! A DNS server that answers when it is told to, and a process that asks nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tulle_lab::deadline::{SOON, until};

/// Where names point that there are.
const ADDRESS: [u8; 4] = [127, 0, 0, 1];
/// Addresses of DNS servers of tests, of which one is free.
const SERVERS: std::ops::Range<u8> = 2..200;

/// A running server.
pub struct Names {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// What names are answered with: whether there is something of that name.
    known: BTreeMap<String, bool>,
    asked: BTreeSet<String>,
}

impl Names {
    /// Starts one that knows nothing yet: who asks waits.
    pub async fn start() -> Names {
        let mut bound = None;
        for last in SERVERS {
            if bound.is_none() {
                bound = UdpSocket::bind(SocketAddr::from(([127, 66, 53, last], 53))).await.ok();
            }
        }
        let (socket, shared) = (Arc::new(bound.unwrap()), Arc::<Shared>::default());
        let names = Names { shared: Arc::clone(&shared), address: socket.local_addr().unwrap() };
        tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut question).await.unwrap();
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                let question = question[..length].to_vec();
                tokio::spawn(async move {
                    let name = name(&question);
                    let exists = shared.answer(&name).await;
                    // Who asked may have given up.
                    let _ = socket.send_to(&answer(&question, exists), from).await;
                });
            }
        });
        names
    }

    /// From now on a name is answered.
    pub fn tell(&self, name: &str, exists: bool) {
        self.shared.state.lock().unwrap().known.insert(name.to_owned(), exists);
        self.shared.changed.notify_waiters();
    }

    /// Waits until somebody asks for a name.
    pub async fn asked(&self, name: &str) {
        let what = format!("a question for {name}");
        let asked =
            || async { self.shared.state.lock().unwrap().asked.contains(name).then_some(()) };
        until(&what, SOON, asked).await.unwrap();
    }

    /// The same command, for a process that asks this server.
    pub fn asked_by(&self, command: &Command, directory: &Path) -> Command {
        let settings = directory.join("resolv.conf");
        let text = format!("nameserver {}\noptions timeout:1 attempts:5\n", self.address.ip());
        std::fs::write(&settings, text).unwrap();
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "--propagation", "private", "sh", "-c"]);
        inside.arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"").arg(settings);
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }
}

impl Shared {
    async fn answer(&self, name: &str) -> bool {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock().unwrap();
                state.asked.insert(name.to_owned());
                if let Some(exists) = state.known.get(name) {
                    return *exists;
                }
            }
            changed.await;
        }
    }
}

/// The name that is asked for.
fn name(question: &[u8]) -> String {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    labels.join(".")
}

/// An address to a question for type A, nothing to others, an error where nothing exists (RFC 1035,
/// section 4).
fn answer(question: &[u8], exists: bool) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let wants_address = question[end - 4..end - 2] == [0, 1] && exists;
    let mut answer = question[..end].to_vec();
    answer[2] = 0x85;
    answer[3] = if exists { 0x80 } else { 0x83 };
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(wants_address), 0, 0, 0, 0]);
    if wants_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(ADDRESS);
    }
    answer
}
