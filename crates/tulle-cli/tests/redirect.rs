//! `tulle redirect` in real network namespaces: who reaches whom, and as what the kernel says that
//! a connection was meant.
//!
//! Each test has two namespaces of its own, `app` (with rules) and `peer` (without), joined by a
//! link. A small program stands for the proxy and for the applications.

use std::process::Output;

use namespaces::{Agent, Namespaces, is_root};

#[path = "redirect/namespaces.rs"]
mod namespaces;

/// User of the proxy, as by default.
const PROXY: u32 = 1337;
/// User of the application.
const APP: u32 = 1000;

/// A proxy and an application in one namespace, an application in the other.
struct Stage {
    proxy: Agent,
    app: Agent,
    peer: Agent,
    backend: &'static str,
    // Dropped last: namespaces go when nothing lives in them.
    namespaces: Namespaces,
}

impl Stage {
    fn new(backend: &'static str) -> Stage {
        let namespaces = Namespaces::new();
        let mut proxy = namespaces.agent("app", PROXY);
        proxy.listen("outbound", 15001);
        proxy.listen("inbound", 15006);
        let mut app = namespaces.agent("app", APP);
        let mut peer = namespaces.agent("peer", APP);
        for port in [8080, 8081, 9000, 9005] {
            app.listen("app", port);
            peer.listen("peer", port);
        }
        Stage { proxy, app, peer, backend, namespaces }
    }

    fn tulle(&self, arguments: &[&str]) -> Output {
        let mut command = vec![env!("CARGO_BIN_EXE_tulle"), "redirect"];
        command.extend(arguments);
        self.namespaces.run("app", &command)
    }

    fn apply(&self, arguments: &[&str]) {
        let mut all = vec!["apply", "--backend", self.backend];
        all.extend(arguments);
        let output = self.tulle(&all);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn remove(&self) -> String {
        let output = self.tulle(&["remove"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Every rule in force, whoever made it.
    fn rules(&self) -> String {
        let programs: [&[&str]; 3] =
            [&["nft", "list", "tables"], &["iptables-save"], &["ip6tables-save"]];
        let ours = programs.map(|program| self.namespaces.print("app", program));
        let nft = self.namespaces.print("app", &["nft", "list", "ruleset", "inet"]);
        let lines = ours.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
        // The tables that iptables makes for its built-in chains stay, empty.
        let lines = lines.filter(|line| !line.starts_with("table ip"));
        let lines = lines.filter(|line| line.contains("-A ") || line.contains("tulle"));
        lines.chain(nft.lines()).collect::<Vec<_>>().join("\n")
    }
}

fn new_connections_go_through_the_proxy(backend: &'static str) {
    let mut stage = Stage::new(backend);
    stage.apply(&[]);
    let Stage { proxy, app, peer, .. } = &mut stage;
    assert_eq!(app.connect("10.77.0.2", 8080), "outbound 10.77.0.2:8080");
    assert_eq!(app.connect("fd77::2", 8080), "outbound [fd77::2]:8080");
    // Nobody has these addresses: services.
    assert_eq!(app.connect("10.99.0.1", 80), "outbound 10.99.0.1:80");
    assert_eq!(app.connect("fd99::1", 80), "outbound [fd99::1]:80");
    assert_eq!(peer.connect("10.77.0.1", 8080), "inbound 10.77.0.1:8080");
    assert_eq!(peer.connect("fd77::1", 8080), "inbound [fd77::1]:8080");
    // The proxy itself, to others and to the application.
    assert!(proxy.connect("10.77.0.2", 8080).starts_with("peer "));
    assert!(proxy.connect("fd77::2", 8080).starts_with("peer "));
    assert!(proxy.connect("127.0.0.1", 8080).starts_with("app "));
    assert!(proxy.connect("::1", 8080).starts_with("app "));
}

fn what_stays_inside_is_left_alone_but_a_service_that_calls_itself_is_a_call(
    backend: &'static str,
) {
    let mut stage = Stage::new(backend);
    stage.apply(&[]);
    let Stage { proxy, app, .. } = &mut stage;
    for address in ["127.0.0.1", "::1", "10.77.0.1", "fd77::1"] {
        assert!(app.connect(address, 8080).starts_with("app "), "{address}");
    }
    // The proxy chose the endpoint beside it.
    assert_eq!(proxy.connect("10.77.0.1", 8080), "inbound 10.77.0.1:8080");
    assert_eq!(proxy.connect("fd77::1", 8080), "inbound [fd77::1]:8080");
    // The proxy passes an undeclared port on.
    assert!(proxy.connect_from("127.0.0.6", "10.77.0.1", 8080).starts_with("app "));
    assert!(proxy.connect_from("::1", "fd77::1", 8080).starts_with("app "));
}

fn open_connections_stay_as_they_are(backend: &'static str) {
    let mut stage = Stage::new(backend);
    let Stage { app, peer, .. } = &mut stage;
    for (name, address) in [("v4", "10.77.0.2"), ("v6", "fd77::2")] {
        assert!(app.open(name, address, 8080).starts_with("peer "));
    }
    for (name, address) in [("v4", "10.77.0.1"), ("v6", "fd77::1")] {
        assert!(peer.open(name, address, 8080).starts_with("app "));
    }
    // Once without, once with rules in force already, once with other rules.
    for arguments in [&[][..], &[], &["--exclude-outbound-ports", "9000"], &["--proxy-uid", "1338"]]
    {
        stage.apply(arguments);
        let Stage { app, peer, .. } = &mut stage;
        for name in ["v4", "v6"] {
            assert_eq!(app.say(name, "still here"), "still here", "{arguments:?}");
            assert_eq!(peer.say(name, "still here"), "still here", "{arguments:?}");
        }
        if arguments.is_empty() {
            assert_eq!(app.open("redirected", "10.77.0.2", 8080), "outbound 10.77.0.2:8080");
            assert_eq!(peer.open("redirected", "fd77::1", 8080), "inbound [fd77::1]:8080");
        }
        assert_eq!(app.say("redirected", "and here"), "and here", "{arguments:?}");
        assert_eq!(peer.say("redirected", "and here"), "and here", "{arguments:?}");
    }
}

fn without_the_proxy_everything_is_refused(backend: &'static str) {
    let mut stage = Stage::new(backend);
    stage.apply(&[]);
    let Stage { proxy, app, peer, .. } = &mut stage;
    assert_eq!(app.open("open", "10.77.0.2", 8080), "outbound 10.77.0.2:8080");
    proxy.kill();
    assert_eq!(app.say("open", "anybody?"), "closed");
    for address in ["10.77.0.2", "fd77::2", "10.99.0.1", "fd99::1"] {
        assert_eq!(app.connect(address, 8080), "refused", "{address}");
    }
    for address in ["10.77.0.1", "fd77::1"] {
        assert_eq!(peer.connect(address, 8080), "refused", "{address}");
    }
}

fn what_is_excluded_goes_directly(backend: &'static str) {
    let mut stage = Stage::new(backend);
    let mut by_mark = stage.namespaces.agent("app", 0);
    let mut by_user = stage.namespaces.agent("app", 2000);
    let Stage { app, peer, .. } = &mut stage;
    peer.listen("peer", 2222);
    app.listen("app", 7000);
    stage.apply(&[
        "--exclude-inbound-ports=7000,9000-9004",
        "--exclude-outbound-ports=2222,9000-9004",
        "--exclude-outbound-cidrs=10.88.0.0/24,fd88::2",
        "--exclude-uids=2000",
        "--exclude-gids=3000",
        "--exclude-marks=0x539/0xfff",
    ]);
    let mut by_group = stage.namespaces.agent("app", 3000);
    let Stage { proxy, app, peer, .. } = &mut stage;
    assert!(app.connect("10.77.0.2", 2222).starts_with("peer "));
    assert!(app.connect("fd77::2", 9000).starts_with("peer "));
    assert_eq!(app.connect("10.77.0.2", 9005), "outbound 10.77.0.2:9005");
    assert!(app.connect("10.88.0.2", 8080).starts_with("peer "));
    assert!(app.connect("fd88::2", 8080).starts_with("peer "));
    assert_eq!(app.connect("fd88::3", 8080), "outbound [fd88::3]:8080");
    assert!(by_user.connect("10.77.0.2", 8080).starts_with("peer "));
    assert!(by_group.connect("fd77::2", 8080).starts_with("peer "));
    assert_eq!(by_mark.connect("10.77.0.2", 8080), "outbound 10.77.0.2:8080");
    assert!(by_mark.connect_marked(0x539, "10.77.0.2", 8080).starts_with("peer "));
    assert!(by_mark.connect_marked(0x1539, "fd77::2", 8080).starts_with("peer "));
    assert_eq!(by_mark.connect_marked(0x53a, "10.77.0.2", 8080), "outbound 10.77.0.2:8080");
    assert!(peer.connect("10.77.0.1", 7000).starts_with("app "));
    assert!(peer.connect("fd77::1", 9000).starts_with("app "));
    assert_eq!(peer.connect("10.77.0.1", 9005), "inbound 10.77.0.1:9005");
    assert!(proxy.connect("10.77.0.1", 9000).starts_with("app "));
}

fn removal_leaves_no_trace(backend: &'static str) {
    let mut stage = Stage::new(backend);
    assert_eq!(stage.remove(), "nothing to remove");
    let before = stage.rules();
    stage.apply(&["--exclude-outbound-ports=22"]);
    assert_ne!(stage.rules(), before);
    assert_eq!(stage.remove(), "TCP of this namespace goes its own way again");
    assert_eq!(stage.rules(), before);
    assert!(stage.app.connect("10.77.0.2", 8080).starts_with("peer "));
    assert!(stage.peer.connect("fd77::1", 8080).starts_with("app "));
    assert_eq!(stage.remove(), "nothing to remove");
}

fn removal_can_keep_what_is_open(backend: &'static str) {
    let mut stage = Stage::new(backend);
    let before = stage.rules();
    stage.apply(&[]);
    assert_eq!(stage.app.open("open", "10.77.0.2", 8080), "outbound 10.77.0.2:8080");
    assert_eq!(stage.peer.open("open", "fd77::1", 8080), "inbound [fd77::1]:8080");
    assert!(stage.tulle(&["remove", "--keep-open"]).status.success());
    let Stage { app, peer, .. } = &mut stage;
    for part in [app, peer] {
        assert_eq!(part.say("open", "still here"), "still here");
    }
    assert!(stage.app.connect("fd77::2", 8080).starts_with("peer "));
    assert!(stage.peer.connect("10.77.0.1", 8080).starts_with("app "));
    stage.remove();
    assert_eq!(stage.rules(), before);
    let kept = stage.tulle(&["remove", "--keep-open"]);
    assert_eq!(kept.stdout, b"nothing to remove\n");
    assert_eq!(stage.rules(), before);
}

fn applying_twice_is_applying_once_whichever_tool_came_before(backend: &'static str) {
    let stage = Stage::new(backend);
    stage.apply(&[]);
    let once = stage.rules();
    stage.apply(&[]);
    assert_eq!(stage.rules(), once);
    let other = if backend == "nft" { "iptables" } else { "nft" };
    assert!(stage.tulle(&["apply", "--backend", other]).status.success());
    assert_ne!(stage.rules(), once);
    stage.apply(&[]);
    assert_eq!(stage.rules(), once);
}

fn nothing_leaves_past_the_proxy(backend: &'static str) {
    let mut stage = Stage::new(backend);
    stage.apply(&[]);
    // Somebody keeps a port from being tracked, so it is not translated.
    let untracked = "add table inet other; add chain inet other raw { type filter hook output \
        priority raw; }; add rule inet other raw tcp dport 8081 notrack";
    stage.namespaces.print("app", &["nft", untracked]);
    assert_eq!(stage.app.connect("10.77.0.2", 8081), "refused");
    assert_eq!(stage.app.connect("fd77::2", 8081), "refused");
    assert!(stage.proxy.connect("10.77.0.2", 8081).starts_with("peer "));
    // Outsiders may not use the proxy's own ports as if they were inside.
    for port in [15001, 15006] {
        assert_eq!(stage.peer.connect("10.77.0.1", port), "refused", "{port}");
        assert_eq!(stage.peer.connect("fd77::1", port), "refused", "{port}");
    }
}

fn without_the_right_the_error_says_which(backend: &'static str) {
    let stage = Stage::new(backend);
    let before = stage.rules();
    let tulle = env!("CARGO_BIN_EXE_tulle");
    let command =
        ["setpriv", "--bounding-set=-net_admin", tulle, "redirect", "apply", "--backend", backend];
    let output = stage.namespaces.run("app", &command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("run as root (CAP_NET_ADMIN)"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert_eq!(stage.rules(), before);
}

macro_rules! with_each_tool {
    ($($test:ident;)*) => {
        mod nft {
            $(#[test] fn $test() { super::run(super::$test, "nft"); })*
        }
        mod iptables {
            $(#[test] fn $test() { super::run(super::$test, "iptables"); })*
        }
    };
}

with_each_tool! {
    new_connections_go_through_the_proxy;
    what_stays_inside_is_left_alone_but_a_service_that_calls_itself_is_a_call;
    open_connections_stay_as_they_are;
    without_the_proxy_everything_is_refused;
    what_is_excluded_goes_directly;
    removal_leaves_no_trace;
    removal_can_keep_what_is_open;
    applying_twice_is_applying_once_whichever_tool_came_before;
    nothing_leaves_past_the_proxy;
    without_the_right_the_error_says_which;
}

fn run(test: fn(&'static str), backend: &'static str) {
    match is_root() {
        true => test(backend),
        false => eprintln!("skipped: network namespaces need root"),
    }
}
