//! The committed protocol code is what the generator writes.

use std::process::Command;

#[test]
fn the_committed_code_is_what_the_generator_writes() {
    let output = Command::new(env!("CARGO_BIN_EXE_codegen")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
