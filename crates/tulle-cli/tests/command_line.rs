//! The command line as a user meets it: what is printed, and with which exit code.

use std::process::{Command, Output};

/// Where the founding example is, as seen from this crate.
const EXAMPLES: &str = "../tulle-config/tests/examples";

fn tulle(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tulle"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(arguments).output().expect("tulle runs")
}

fn printed(arguments: &[&str]) -> String {
    let output = tulle(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is excluded, every way there is.
const EXCLUDED: [&str; 6] = [
    "--exclude-inbound-ports=22,8000-8100",
    "--exclude-outbound-ports=5432",
    "--exclude-outbound-cidrs=10.1.2.3/8,10.0.0.0/9,fd00::1",
    "--exclude-uids=0,65534",
    "--exclude-gids=3000",
    "--exclude-marks=0x539/0xfff",
];

#[test]
fn redirect_print_shows_the_rules_of_both_tools() {
    insta::assert_snapshot!("redirect_nft", printed(&["redirect", "print"]));
    let iptables = [&["redirect", "print", "--backend=iptables"][..], &EXCLUDED].concat();
    insta::assert_snapshot!("redirect_iptables_excluded", printed(&iptables));
    let nft = [&["redirect", "print", "--outbound=4140", "-o", "json"][..], &EXCLUDED].concat();
    insta::assert_snapshot!("redirect_nft_excluded_json", printed(&nft));
}

#[test]
fn explain_names_the_line_behind_each_step() {
    let from = ["explain", "--from", "test/caller", "--config", EXAMPLES];
    let with = ["--to", "http://172.16.17.5/", "-H", "service: stockservice"];
    insta::assert_snapshot!("explain_routed", printed(&[&from[..], &with].concat()));

    let refused = tulle(&[&from[..], &["--to", "http://orderservice/", "-o", "json"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    assert_eq!((&told["end"]["status"], &told["end"]["flag"]), (&404.into(), &"NR".into()));
    let steps = told["steps"].as_array().expect("steps");
    let rule = "VirtualService test/route-by-header spec.http[0]";
    let passed_over = steps.iter().find(|step| step["origin"] == rule).expect("passed over");
    assert_eq!(passed_over["place"]["file"], format!("{EXAMPLES}/route-by-header.yaml"));
    assert_eq!(
        (&passed_over["place"]["line"], &passed_over["place"]["column"]),
        (&93.into(), &5.into())
    );
}

#[test]
fn analyze_finds_what_is_wrong_and_says_how_much() {
    let good = printed(&["analyze", &format!("{EXAMPLES}/route-by-header.yaml")]);
    assert!(good.ends_with("\n1 file: 0 errors, 3 warnings\n"), "{good}");
    let folder = tempfile::tempdir().expect("a folder");
    let bad = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
        metadata: {name: a}\n\
        spec: {hosts: [a.b], http: [{directResponse: {status: 200}}], htp: []}\n";
    std::fs::write(folder.path().join("bad.yaml"), bad).expect("written");
    std::fs::write(folder.path().join(".hidden.yaml"), "{").expect("written");
    std::fs::write(folder.path().join("notes.txt"), "{").expect("written");
    let path = folder.path().to_str().expect("text");
    let found = tulle(&["analyze", path, "-o", "json"]);
    assert_eq!(found.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!((&told["files"], &told["errors"]), (&1.into(), &1.into()), "{told}");
    let finding = &told["findings"][0];
    assert_eq!((&finding["code"], &finding["line"]), (&"TUL0301".into(), &4.into()), "{told}");
    assert_eq!(finding["path"], "spec.htp");
}

#[test]
fn every_command_has_an_example() {
    for verb in
        ["analyze", "demo", "explain", "proxy-config", "proxy-status", "redirect", "version"]
    {
        let help = printed(&[verb, "--help"]);
        assert!(help.contains("Example") && help.contains(&format!("tulle {verb}")), "{help}");
    }
    for verb in ["apply", "remove", "print"] {
        let help = printed(&["redirect", verb, "--help"]);
        assert!(help.contains(&format!("tulle redirect {verb}")), "{help}");
    }
}

#[test]
fn a_control_plane_that_is_not_there_is_one_line() {
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let address = port.expect("a port").to_string();
    for arguments in [
        &["proxy-status"][..],
        &["proxy-config", "all", "a/b"],
        &["explain", "--from", "a/b", "--to", "http://c"],
    ] {
        let output = tulle(&[arguments, &["--control", &address]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot be reached") && said.lines().count() == 1, "{said}");
    }
}

/// Answers one request on a port of its own; the address, and the request's first line.
fn answering(status: &str, body: &str) -> (String, std::thread::JoinHandle<String>) {
    let (address, serving) = answering_all(&[(status, body)]);
    (address, std::thread::spawn(|| serving.join().expect("served").concat()))
}

/// Answers requests one after the other, each on a connection of its own.
fn answering_all(answers: &[(&str, &str)]) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let answer = |(status, body): &(&str, &str)| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let answers: Vec<String> = answers.iter().map(answer).collect();
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
            let head: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).expect("written");
            asked.extend(head.into_iter().next());
        }
        asked
    });
    (address, serving)
}

#[test]
fn what_a_proxy_does_not_hold_as_it_was_sent_is_told_in_both_formats() {
    let dump = r#"{"configs": [{
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
        "dynamic_active_clusters": [
        {"version_info": "1", "cluster": {"name": "old"}}
    ]}]}"#;
    let sent = |version: &str| {
        format!(r#"{{"cluster": {{"rejected": null, "resources": {{"old": "{version}"}}}}}}"#)
    };
    let differs = "cluster old: sent as 2, held as 1";
    for (status, version, format, code, says) in [
        ("200 OK", "2", "table", 1, differs),
        ("200 OK", "2", "json", 1, differs),
        ("200 OK", "1", "table", 0, "old"),
        ("200 OK", "1", "json", 0, "\"differences\": []"),
        ("404 Not Found", "2", "json", 0, "\"differences\": null"),
    ] {
        let (address, serving) = answering_all(&[("200 OK", dump), (status, &sent(version))]);
        let output =
            tulle(&["proxy-config", "clusters", "a/b", "--control", &address, "-o", format]);
        let asked = serving.join().expect("served");
        let paths = ["/api/v1/proxies/a/b/config?kind=clusters", "/api/v1/proxies/a/b/sent"];
        assert_eq!(asked, paths.map(|path| format!("GET {path} HTTP/1.1")));
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{status} {version} {format}: {told}");
        assert!(told.contains(says), "{status} {version} {format}: {told}");
        assert_eq!(told.contains(differs), code == 1, "{told}");
        if format == "json" {
            let json: serde_json::Value = serde_json::from_str(&told).expect("JSON");
            assert_eq!(json["configs"][0]["dynamic_active_clusters"][0]["version_info"], "1");
        }
    }
}

#[test]
fn the_control_plane_is_asked_and_believed() {
    let (address, serving) = answering("200 OK", r#"{"steps":[],"end":{"is":"x"},"good":true}"#);
    let question =
        ["explain", "--from", "a/b", "--to", "http://c/?d=e", "-X", "PUT", "-H", "f: g h"];
    let told = tulle(&[&question[..], &["--control", &address, "-o", "json"]].concat());
    let asked = serving.join().expect("served");
    let query = "to=http%3A%2F%2Fc%2F%3Fd%3De&method=PUT&header=f%3A%20g%20h";
    assert_eq!(asked, format!("GET /api/v1/explain/a/b?{query} HTTP/1.1"));
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stderr));

    for (status, body, says) in [
        ("404 Not Found", r#"{"error":"a/b is not connected"}"#, "a/b is not connected"),
        ("500 Oops", "<html>", "answers 500"),
        ("200 OK", "<html>", "is not the admin address of a control plane"),
        ("200 OK", "{}", "is no control plane of this version"),
    ] {
        let (address, serving) = answering(status, body);
        let output = tulle(&["proxy-status", "a/b", "--control", &address]);
        serving.join().expect("served");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{says}: {said}");
    }
}

#[test]
fn bad_use_is_exit_code_2_and_says_what_to_write() {
    for (arguments, says) in [
        (&["redirect", "apply", "--outbound", "0"][..], "from 1 to 65535"),
        (&["redirect", "apply", "--exclude-outbound-ports", "9-8"], "write 8-9"),
        (&["redirect", "apply", "--exclude-marks", "0"], "choose another"),
        (&["redirect", "apply", "--exclude-outbound-cidrs", "x"], "10.0.0.0/8"),
        (&["redirect"], "Usage"),
        (&["explain", "--from", "a/b", "--to", "http://c"], "--config DIR or --control"),
        (&["explain", "--from", "a/b", "--to", "c", "--config", EXAMPLES], "write http://HOST"),
        (&["explain", "--from", "a", "--to", "http://c"], "write NAMESPACE/NAME"),
        (&["proxy-config", "all", "a"], "write NAMESPACE/NAME"),
        (&["analyze", "/nowhere/at/all"], "cannot read /nowhere/at/all"),
        (&["nonsense"], "nonsense"),
    ] {
        let output = tulle(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
