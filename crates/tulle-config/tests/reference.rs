//! The reference of what is enforced, written by the code itself: the fields the readers ask for
//! while they read `tests/examples/everything.yaml`, and the table of findings.
//! `UPDATE_GOLDEN=1` writes the pages anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "UPDATE_GOLDEN is read here only")]

use std::fs;
use std::path::{Path, PathBuf};

use tulle_config::load::{File, Loaded, load};
use tulle_config::{Variable, analyze, diagnostic};

const EVERYTHING: &str = include_str!("examples/everything.yaml");

fn everything() -> Loaded {
    load(&[File { path: "everything.yaml", text: EVERYTHING }], &|_| Variable::Forbidden)
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name)
}

#[track_caller]
fn is_current(name: &str, expected: &str) {
    let path = page(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/reference/{name} is out of date: UPDATE_GOLDEN=1");
}

/// The text of one table: a row per message, what is enforced and what is not.
fn fields_page(loaded: &Loaded) -> String {
    let mut out = String::from(
        "# Istio objects: what is enforced\n\n\
         `networking.istio.io/{v1,v1beta1,v1alpha3}`. A field that is not enforced is refused\n\
         with an error (`TUL0302`), never accepted and ignored; so is one that does not exist\n\
         (`TUL0301`). Written by `crates/tulle-config/tests/reference.rs` from the fields the\n\
         code asks for.\n\n\
         | message | enforced | refused |\n|---|---|---|\n",
    );
    for (message, fields) in loaded.schema.iter().filter(|(message, _)| !message.is_empty()) {
        let list = |enforced: bool| -> String {
            let names = fields.iter().filter(|(_, is)| **is == enforced);
            let names: Vec<String> = names.map(|(name, _)| format!("`{name}`")).collect();
            names.join(", ")
        };
        out.push_str(&format!("| {message} | {} | {} |\n", list(true), list(false)));
    }
    out
}

#[test]
fn everything_enforced_is_accepted_without_a_finding() {
    let loaded = everything();
    let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}");
    let files = [File { path: "everything.yaml", text: EVERYTHING }];
    let found = analyze(&files, Default::default(), &|_| Variable::Forbidden);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_enforced_field_is_in_the_example() {
    let inert = ["ObjectMeta", "Object", ""];
    for (message, fields) in everything().schema {
        let enforced = fields.into_iter().filter(|(_, enforced)| *enforced);
        for (name, _) in enforced.filter(|_| !inert.contains(&message)) {
            assert!(EVERYTHING.contains(&format!("{name}:")), "{message}.{name}");
        }
    }
}

#[test]
fn the_reference_of_fields_is_current() {
    is_current("istio.md", &fields_page(&everything()));
}

#[test]
fn the_reference_of_findings_is_current() {
    let text = format!(
        "# Findings\n\nWhat `tulle analyze` and the control plane say about configuration. A code \
         never changes its\nmeaning. An error refuses the object it is about, or a part of it can \
         never work; everything else\nkeeps working. Written by \
         `crates/tulle-config/tests/reference.rs`.\n\n{}",
        diagnostic::reference()
    );
    is_current("findings.md", &text);
}
