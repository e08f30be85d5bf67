use super::{Finding, SourceFile, Tree, check_tree, functions, mask, rules};

/// The rules that `text` breaks as a source file at `path`.
fn broken(path: &str, text: &str) -> Vec<&'static str> {
    rules::check_file(&SourceFile::new(path, text)).into_iter().map(|f| f.rule).collect()
}

fn broken_in(files: &[(&str, &str)]) -> Vec<Finding> {
    check_tree(&Tree::of(files.iter().copied()))
}

const CLEAN: &str = "//! A place in a story.\n\nfn answer() -> u32 {\n    42\n}\n";
const MANIFEST: &str = "[lints]\nworkspace = true\n\n[dependencies]\n";

#[track_caller]
fn assert_planted(path: &str, text: &str, rule: &str) {
    assert_eq!(broken(path, CLEAN), Vec::<&str>::new(), "the clean file must pass at {path}");
    assert_eq!(broken(path, text), [rule]);
}

#[test]
fn a_long_file_is_found_and_its_tests_are_not_counted() {
    let long = format!("//! Long.\n{}", "const A: u8 = 1;\n".repeat(600));
    assert_planted("crates/a/src/a.rs", &long, "file-length");
    let tests = "    const A: u8 = 1;\n".repeat(600);
    let with_tests = format!("{CLEAN}#[cfg(test)]\nmod tests {{\n{tests}}}\n");
    assert_eq!(broken("crates/a/src/a.rs", &with_tests), Vec::<&str>::new());
}

#[test]
fn a_wide_line_is_found() {
    let wide = format!("{CLEAN}// {}\n", "a".repeat(98));
    assert_planted("crates/a/src/a.rs", &wide, "line-width");
    let fitting = format!("{CLEAN}// {}\n", "ä".repeat(97));
    assert_eq!(broken("crates/a/src/a.rs", &fitting), Vec::<&str>::new());
}

#[test]
fn a_long_function_is_found_without_its_comments() {
    let body = "    call();\n".repeat(71);
    let long = format!("//! Long.\nfn long() {{\n{body}}}\n");
    assert_planted("crates/a/src/a.rs", &long, "function-length");
    let comments = "    // why\n\n".repeat(100);
    let commented = format!("//! Fine.\nfn fine() {{\n{comments}}}\n");
    assert_eq!(broken("crates/a/src/a.rs", &commented), Vec::<&str>::new());
}

#[test]
fn too_many_parameters_are_found() {
    let text = "//! Many.\nfn many<F: Fn(u8, u8) -> u8>(&self, a: (u8, u8), b: F, c: u8, d: u8, \
                e: Map<u8, u8>,) {}\n";
    assert_planted("crates/a/src/a.rs", text, "parameter-count");
    let five = "//! Five.\nfn five(&self, a: (u8, u8), b: [u8; 2], c: Map<u8, u8>, d: u8) {}\n";
    assert_eq!(broken("crates/a/src/a.rs", five), Vec::<&str>::new());
    let six = "fn six(&self, a: u8, b: u8, c: u8, d: u8, e: u8) {}";
    let dictated = format!("//! Six.\nimpl<T> Verify<T> for A\n{{\n    {six}\n}}\n");
    assert_eq!(broken("crates/a/src/a.rs", &dictated), Vec::<&str>::new());
    let own = format!("//! Six.\nimpl A {{\n    {six}\n}}\n");
    assert_eq!(broken("crates/a/src/a.rs", &own), ["parameter-count"]);
}

#[test]
fn a_getter_prefix_is_found() {
    let text = format!("//! Getter.\nfn {}name() {{}}\n", concat!("get", "_"));
    assert_planted("crates/a/src/a.rs", &text, "getter-name");
}

#[test]
fn module_files_and_names_are_found() {
    assert_eq!(broken("crates/a/src/b/mod.rs", CLEAN), ["mod-rs"]);
    assert_eq!(broken("crates/a/src/utils.rs", CLEAN), ["module-name"]);
    assert_eq!(broken("crates/a/src/common/b.rs", CLEAN), ["module-name"]);
    let inline = format!("{CLEAN}pub mod helpers;\n");
    assert_planted("crates/a/src/a.rs", &inline, "module-name");
}

#[test]
fn a_module_without_its_place_is_found() {
    assert_planted("crates/a/src/a.rs", "fn answer() {}\n", "module-doc");
}

#[test]
fn an_empty_type_name_is_found() {
    let text = "//! Names.\npub struct ClusterManager;\n";
    assert_planted("crates/a/src/a.rs", text, "type-name");
    let theirs = "//! Names.\npub struct HttpConnectionManager;\n";
    assert_eq!(broken("crates/a/src/a.rs", theirs), Vec::<&str>::new());
}

#[test]
fn an_unexplained_panic_is_found() {
    let text = "//! Panics.\nfn a() {\n    b().expect(\"why\");\n}\n";
    assert_planted("crates/a/src/a.rs", text, "panic-unexplained");
    let explained =
        "//! Panics.\nfn a() {\n    // b was checked above\n    b().expect(\"b\");\n}\n";
    assert_eq!(broken("crates/a/src/a.rs", explained), Vec::<&str>::new());
    assert_planted("crates/a/src/http/codec/scan.rs", explained, "panic-on-network");
    let test = format!("{CLEAN}#[cfg(test)]\nmod tests {{\n    fn a() {{ b().unwrap(); }}\n}}\n");
    assert_eq!(broken("crates/a/src/a.rs", &test), Vec::<&str>::new());
}

#[test]
fn a_lint_silenced_without_a_reason_is_found() {
    let text = "//! Lints.\n#[allow(unsafe_code)]\nfn a() {}\n";
    assert_planted("crates/a/src/a.rs", text, "silent-lint");
    let reasoned = "//! Lints.\n#[expect(\n    unsafe_code,\n    reason = \"x\"\n)]\nfn a() {}\n";
    assert_eq!(broken("crates/a/src/a.rs", reasoned), Vec::<&str>::new());
}

#[test]
fn unfinished_work_without_a_number_is_found() {
    let word = concat!("TO", "DO");
    assert_planted("crates/a/src/a.rs", &format!("{CLEAN}// {word}: later\n"), "unfinished");
    let tracked = format!("{CLEAN}// {word}(#12): later\n");
    assert_eq!(broken("crates/a/src/a.rs", &tracked), Vec::<&str>::new());
    assert_eq!(broken("tools/a.sh", &format!("# {word}\n")), ["unfinished"]);
}

#[test]
fn a_path_of_one_machine_is_found() {
    let path = concat!("/ho", "me/somebody/src");
    assert_planted("crates/a/src/a.rs", &format!("{CLEAN}// see {path}\n"), "local-path");
    assert_eq!(broken("docs/a.md", &format!("see ({path})\n")), ["local-path"]);
    assert_eq!(
        broken("docs/a.md", &format!("see https://example.org{path}\n")),
        Vec::<&str>::new()
    );
}

#[test]
fn generated_code_is_its_generators_business() {
    let wide = format!("// {}\n", "a".repeat(200));
    assert_eq!(broken("crates/a/src/generated/a.rs", &wide), Vec::<&str>::new());
    let unfinished = format!("// {}\n", concat!("TO", "DO"));
    assert_eq!(broken("crates/a/proto/envoy/a.proto", &unfinished), Vec::<&str>::new());
    assert_eq!(broken("crates/a/proto/tulle/a.proto", &unfinished), ["unfinished"]);
}

#[test]
fn a_crate_arrow_upwards_is_found() {
    let upwards = format!("{MANIFEST}tulle-proxy = {{ workspace = true }}\n");
    let findings = broken_in(&[("crates/tulle-model/Cargo.toml", &upwards)]);
    assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), ["crate-arrows"]);
    let unknown = broken_in(&[("crates/tulle-other/Cargo.toml", MANIFEST)]);
    assert_eq!(unknown.iter().map(|f| f.rule).collect::<Vec<_>>(), ["crate-arrows"]);
    let downwards = format!("{MANIFEST}tulle-model = {{ workspace = true }}\n");
    assert_eq!(broken_in(&[("crates/tulle-proxy/Cargo.toml", &downwards)]), []);
}

#[test]
fn a_pure_crate_with_a_runtime_is_found() {
    let impure = format!("{MANIFEST}tokio = {{ workspace = true }}\n");
    let findings = broken_in(&[("crates/tulle-config/Cargo.toml", &impure)]);
    assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), ["pure-crate"]);
}

#[test]
fn a_crate_without_the_lints_is_found() {
    let findings = broken_in(&[("crates/tulle-model/Cargo.toml", "[dependencies]\n")]);
    assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), ["workspace-lints"]);
}

#[test]
fn a_lint_configuration_that_differs_is_found() {
    let root = "too-many-arguments-threshold = 5\ntoo-many-lines-threshold = 70\n";
    let nested = "too-many-arguments-threshold = 9\ntoo-many-lines-threshold = 70\n";
    let findings = broken_in(&[("clippy.toml", root), ("crates/a/clippy.toml", nested)]);
    assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), ["clippy-copy"]);
    let findings = broken_in(&[("clippy.toml", nested)]);
    assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), ["clippy-budget"]);
}

#[test]
fn a_document_that_lies_is_found() {
    let makefile = ("Makefile", "demo: ## it\n\ttrue\n");
    let command = broken_in(&[makefile, ("README.md", "Type `make dmo`, then\n\nmake demo\n")]);
    assert_eq!(command.iter().map(|f| f.rule).collect::<Vec<_>>(), ["make-command"]);
    let readme = "[a](docs/a.md) [b](docs/none.md) [c](https://example.org) [d](docs)\n";
    let links = broken_in(&[("README.md", readme), ("docs/a.md", "[up](../README.md#top)\n")]);
    assert_eq!(links.iter().map(|f| f.rule).collect::<Vec<_>>(), ["broken-link"]);
}

#[test]
fn a_decision_number_taken_twice_is_found() {
    let findings =
        broken_in(&[("docs/decisions/0001-a.md", "# A\n"), ("docs/decisions/0001-b.md", "# B\n")]);
    assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), ["decision-number"]);
}

#[test]
fn masking_keeps_the_shape_and_hides_comments_and_literals() {
    let cases = [
        ("a(); // fn b()", "a();          "),
        ("\"fn \\\" b\" + 'x'", "\"_______\" + '_'"),
        ("r#\"a \" b\"# 'a fn", "r#\"_____\"# 'a fn"),
        ("/* a /* b */ c */ d", "                  d"),
        ("b'\\'' + '\"'", "b'__' + '_'"),
        ("for r in \"x\"", "for r in \"_\""),
    ];
    for (source, masked) in cases {
        assert_eq!(mask::mask(source), masked, "{source}");
    }
}

#[test]
fn functions_are_measured() {
    let found = functions::find(
        "impl A {\n    async fn b<T>(&self, c: T) -> D\n    where T: E {\n    f();\n\n    }\n}\n",
    );
    let [function] = &found[..] else { panic!("one function expected: {found:?}") };
    assert_eq!((function.name.as_str(), function.line), ("b", 2));
    assert_eq!((function.parameters, function.body_lines), (2, 1));
}
