//! The command line as a user meets it: what is printed, and with which exit code.

use std::process::{Command, Output};

fn tulle(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tulle"));
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
fn bad_use_is_exit_code_2_and_says_what_to_write() {
    for (arguments, says) in [
        (&["redirect", "apply", "--outbound", "0"][..], "from 1 to 65535"),
        (&["redirect", "apply", "--exclude-outbound-ports", "9-8"], "write 8-9"),
        (&["redirect", "apply", "--exclude-marks", "0"], "choose another"),
        (&["redirect", "apply", "--exclude-outbound-cidrs", "x"], "10.0.0.0/8"),
        (&["redirect"], "Usage"),
        (&["nonsense"], "nonsense"),
    ] {
        let output = tulle(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
