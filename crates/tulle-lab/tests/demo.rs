//! `tulle demo`: what it demonstrates happens, each of its checks can fail, and nothing of it is
//! left. The namespaces need root, Node.js, Python and Go.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::process::{Process, binary};

const CHECKS: [&str; 8] = [
    "mesh-up",
    "header-routing",
    "canary",
    "instance-added",
    "instance-killed",
    "rolling-replacement",
    "bad-config",
    "control-plane-outage",
];
/// Those whose sabotage is shown in namespaces too.
const IN_NAMESPACES: [&str; 3] = ["header-routing", "rolling-replacement", "bad-config"];
/// One demonstration, on a machine that does much else.
const LONGEST: Duration = Duration::from_secs(600);
/// Sabotaged demonstrations at the same time: most of them wait for what never comes.
const AT_ONCE: usize = 4;

/// A demonstration with a directory of its own for everything it writes.
struct Demo {
    process: Process,
    directory: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Proxies are not root and must get through to their files.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let files = directory.path().join("tmp");
        std::fs::create_dir(&files).unwrap();
        let mut command = Command::new(binary("tulle").unwrap());
        command.arg("demo").args(arguments).env("TMPDIR", files);
        let process = Process::spawn("demo", command, directory.path()).unwrap();
        Self { process, directory }
    }

    /// Waits for its end: whether it was a good one, its checks, and the names of those that
    /// failed as it sums them up.
    async fn end(&mut self) -> (bool, Vec<(String, bool)>, Vec<String>) {
        let status = self.process.wait_exit(LONGEST).await.unwrap();
        let lines: Vec<Value> = self.lines();
        let checks = lines.iter().filter_map(|line| {
            Some((line.get("check")?.as_str()?.to_owned(), line["ok"].as_bool()?))
        });
        let sum = lines.iter().find_map(|line| line.get("failed")?.as_array());
        let failed = sum.into_iter().flatten().map(|name| name.as_str().unwrap().to_owned());
        (status.success(), checks.collect(), failed.collect())
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.process.stdout();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What it left where it writes.
    fn left(&self) -> Vec<String> {
        names(&self.directory.path().join("tmp"))
    }

    /// Namespaces and files in /etc that are named after it.
    fn namespaces(&self) -> BTreeSet<String> {
        let prefix = format!("tulle-demo-{}-", self.process.pid());
        let both = [names(Path::new("/run/netns")), names(Path::new("/etc/netns"))].concat();
        both.into_iter().filter(|name| name.starts_with(&prefix)).collect()
    }

    /// Processes that name its directory in their arguments.
    fn processes(&self) -> Vec<String> {
        let own = self.directory.path().display().to_string();
        let pids = names(Path::new("/proc")).into_iter().filter(|name| name.parse::<u32>().is_ok());
        let lines = pids.filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
        let texts = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        texts.filter(|line| line.contains(&own)).collect()
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.left(), [""; 0], "{}", self.process.tail());
        assert_eq!(self.namespaces(), BTreeSet::new());
        assert_eq!(self.processes(), [""; 0]);
    }

    /// Everything holds. A share that is measured by chance lies three deviations off once in some
    /// hundred runs, and is measured once more then.
    async fn assert_all_hold(&mut self, arguments: &[&str]) {
        let (mut good, mut checks, mut failed) = self.end().await;
        if failed == ["canary"] {
            println!("measured once more: {}", self.process.stdout());
            *self = Self::start(arguments);
            (good, checks, failed) = self.end().await;
        }
        let all: Vec<_> = CHECKS.iter().map(|check| ((*check).to_owned(), true)).collect();
        assert_eq!((checks, failed), (all, Vec::new()), "{}", self.process.stdout());
        assert!(good, "{}", self.process.tail());
        self.assert_nothing_is_left();
    }
}

/// A demonstration with what `check` shows broken: that check fails and no other.
async fn assert_fails(mut demo: Demo, check: &str) {
    let (good, made, failed) = demo.end().await;
    let words = demo.process.stdout() + &demo.process.tail();
    assert_eq!((good, failed), (false, vec![check.to_owned()]), "{check}: {words}");
    assert!(made.len() <= 2 && made.contains(&(check.to_owned(), false)), "{words}");
    // Whoever looks for the cause finds the logs.
    let files = demo.lines().iter().find_map(|line| Some(line.get("files")?.clone()));
    let logs = Path::new(files.unwrap().as_str().unwrap()).join("logs");
    assert!(names(&logs).contains(&"gateway.log".to_owned()), "{words}");
    assert_eq!(demo.processes(), [""; 0]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[tokio::test]
async fn everything_that_is_shown_happens() {
    let arguments = ["--json", "--duration", "4s"];
    Demo::start(&arguments).assert_all_hold(&arguments).await;
}

#[tokio::test]
async fn each_check_fails_when_what_it_shows_is_broken() {
    for checks in CHECKS.chunks(AT_ONCE) {
        let start =
            |check: &&str| Demo::start(&["--json", "--duration", "2s", "--sabotage", check]);
        let demos: Vec<Demo> = checks.iter().map(start).collect();
        for (demo, check) in demos.into_iter().zip(checks) {
            assert_fails(demo, check).await;
        }
    }
}

/// In namespaces other programs are called, killed and read the logs of: the checks that see them
/// can fail there too.
#[tokio::test]
async fn in_namespaces_checks_fail_too() {
    let start = |check: &&str| {
        Demo::start(&["--namespaces", "--json", "--duration", "2s", "--sabotage", check])
    };
    let demos: Vec<Demo> = IN_NAMESPACES.iter().map(start).collect();
    for (demo, check) in demos.into_iter().zip(IN_NAMESPACES) {
        assert_fails(demo, check).await;
    }
}

#[tokio::test]
async fn an_interrupted_demonstration_leaves_nothing() {
    let mut demo = Demo::start(&["--json"]);
    until("the first check", LONGEST, || async {
        demo.process.stdout().contains("mesh-up").then_some(())
    })
    .await
    .unwrap();
    assert!(!demo.processes().is_empty() && !demo.left().is_empty(), "it is at work");
    demo.process.signal(Signal::INT);
    assert!(!demo.process.wait_exit(SOON).await.unwrap().success());
    demo.assert_nothing_is_left();
}

#[tokio::test]
async fn in_namespaces_the_same_happens_and_two_do_not_meet() {
    let arguments = ["--namespaces", "--json", "--duration", "4s"];
    let mut demo = Demo::start(&arguments);
    let mut second = Demo::start(&["--namespaces", "--json"]);
    until("namespaces of the second", LONGEST, || async {
        (second.namespaces().len() > 4).then_some(())
    })
    .await
    .unwrap();
    second.process.signal(Signal::INT);
    assert!(!second.process.wait_exit(SOON).await.unwrap().success());
    second.assert_nothing_is_left();
    demo.assert_all_hold(&arguments).await;
}

#[tokio::test]
async fn what_is_missing_for_namespaces_is_named_with_what_to_install() {
    let directory = tempfile::tempdir().unwrap();
    for program in ["ip", "setpriv", "python3"] {
        let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin"];
        let found = found.map(|place| Path::new(place).join(program));
        if let Some(path) = found.iter().find(|path| path.exists()) {
            symlink(path, directory.path().join(program)).unwrap();
        }
    }
    let mut command = Command::new(binary("tulle").unwrap());
    command.args(["demo", "--namespaces"]).env("PATH", directory.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for remedy in ["node runs `order`: apt-get install nodejs", "go builds `payment`"] {
        assert!(text.contains(remedy), "{text}");
    }
    assert!(!text.contains("setpriv"), "{text}");
}
