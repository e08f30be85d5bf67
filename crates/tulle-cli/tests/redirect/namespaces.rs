//! Network namespaces that go away with the test, and programs in them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Begins the name of every namespace made here; the process that made it follows.
const PREFIX: &str = "tulle-redirect-";

const PROGRAM: &str = include_str!("peer.py");

/// One end of the link.
struct Side {
    name: &'static str,
    v4: &'static str,
    v6: &'static str,
    /// Addresses that are not on the link.
    more: &'static [&'static str],
}

const APP: Side = Side { name: "app", v4: "10.77.0.1", v6: "fd77::1", more: &[] };
const PEER: Side = Side {
    name: "peer",
    v4: "10.77.0.2",
    v6: "fd77::2",
    more: &["10.88.0.2", "fd88::2", "fd88::3"],
};

/// Whether namespaces can be made.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Two namespaces with a link between them; each sends what it does not know to the other.
pub struct Namespaces {
    prefix: String,
}

impl Namespaces {
    /// Makes them.
    pub fn new() -> Namespaces {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let namespaces = Namespaces { prefix: format!("{PREFIX}{}-{number}", std::process::id()) };
        let (app, peer) = (namespaces.name("app"), namespaces.name("peer"));
        ip(&["netns", "add", &app]);
        ip(&["netns", "add", &peer]);
        let link = ["link", "add", "wire", "netns", &app, "type", "veth"];
        ip(&[&link[..], &["peer", "name", "wire", "netns", &peer]].concat());
        namespaces.configure(&APP, &PEER);
        namespaces.configure(&PEER, &APP);
        namespaces
    }

    fn configure(&self, side: &Side, other: &Side) {
        let ip = |arguments: &[&str]| ip(&[&["-n", &self.name(side.name)], arguments].concat());
        ip(&["link", "set", "lo", "up"]);
        ip(&["address", "add", &format!("{}/24", side.v4), "dev", "wire"]);
        ip(&["address", "add", &format!("{}/64", side.v6), "dev", "wire", "nodad"]);
        for address in side.more {
            ip(&["address", "add", address, "dev", "lo"]);
        }
        ip(&["link", "set", "wire", "up"]);
        ip(&["route", "add", "default", "via", other.v4]);
        ip(&["-6", "route", "add", "default", "via", other.v6, "dev", "wire"]);
    }

    fn name(&self, which: &str) -> String {
        format!("{}-{which}", self.prefix)
    }

    fn command(&self, which: &str, program: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(which)]).args(program);
        command
    }

    /// Runs a program to its end.
    pub fn run(&self, which: &str, program: &[&str]) -> Output {
        self.command(which, program).output().expect("ip runs")
    }

    /// Runs a program that must succeed and returns what it printed.
    pub fn print(&self, which: &str, program: &[&str]) -> String {
        let output = self.run(which, program);
        assert!(
            output.status.success(),
            "{program:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a program with sockets under a user.
    pub fn agent(&self, which: &str, user: u32) -> Agent {
        let program = ["python3", "-c", PROGRAM, &user.to_string()];
        let mut command = self.command(which, &program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut agent = Agent { child, input, output };
        assert_eq!(agent.read(), "ready");
        agent
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for which in ["app", "peer"] {
            // Nothing more can be done about one that stays.
            let _ = Command::new("ip").args(["netns", "delete", &self.name(which)]).status();
        }
    }
}

/// Removes the namespaces of test processes that were killed.
fn remove_abandoned() {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program with sockets in a namespace. Each of its answers has a limit in time of its own.
pub struct Agent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Agent {
    fn ask(&mut self, question: &serde_json::Value) -> String {
        writeln!(self.input, "{question}").expect("the program reads");
        self.read()
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the program writes text");
        line.trim().to_owned()
    }

    /// Listens on every address of both families.
    pub fn listen(&mut self, name: &str, port: u16) {
        assert_eq!(self.ask(&serde_json::json!(["listen", name, port])), "listening");
    }

    /// Connects and returns what it is greeted with, or what went wrong.
    pub fn connect(&mut self, address: &str, port: u16) -> String {
        self.open("once", address, port)
    }

    /// Connects, keeps the connection under a name.
    pub fn open(&mut self, name: &str, address: &str, port: u16) -> String {
        self.ask(&serde_json::json!(["connect", name, address, port]))
    }

    /// Connects from an address.
    pub fn connect_from(&mut self, source: &str, address: &str, port: u16) -> String {
        self.ask(&serde_json::json!(["connect", "once", address, port, source]))
    }

    /// Connects with a mark.
    pub fn connect_marked(&mut self, mark: u32, address: &str, port: u16) -> String {
        self.ask(&serde_json::json!(["connect", "once", address, port, "", mark]))
    }

    /// Says something on a kept connection and returns what comes back.
    pub fn say(&mut self, name: &str, text: &str) -> String {
        self.ask(&serde_json::json!(["say", name, text]))
    }

    /// Ends the program as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("it lives");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
