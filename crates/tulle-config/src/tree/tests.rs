use proptest::prelude::*;

use super::*;

fn one(text: &str) -> Document {
    let mut documents = parse("a.yaml", text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0).unwrap()
}

fn fault(text: &str) -> Fault {
    parse("a.yaml", text).into_iter().find_map(Result::err).unwrap()
}

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

#[test]
fn every_field_and_value_knows_its_place() {
    let root = one("a:\n  b: [x, 'y']\n  c: |\n    text\n").root;
    let a = root.entry("a").unwrap();
    assert_eq!(a.key_at, at(1, 1));
    let b = a.value.entry("b").unwrap();
    assert_eq!((b.key_at, b.value.at), (at(2, 3), at(2, 6)));
    let Value::List(items) = &b.value.value else { panic!() };
    assert_eq!((items[0].at, items[1].at), (at(2, 7), at(2, 10)));
    assert_eq!(a.value.text("c"), Some("text\n"));
}

#[test]
fn json_and_yaml_give_the_same_tree_and_places() {
    let text = "{\"a\": [1, true, null, \"x\"],\n \"b\": {\"c\": \"\"}}";
    let yaml = parse("a.yaml", text);
    let json = parse("a.json", text);
    assert_eq!(yaml, json);
    assert!(yaml[0].is_ok());
}

#[test]
fn json_takes_what_yaml_does_not() {
    let text = "{\n\t\"a\": \"\\ud83d\\ude00\\/\"\n}\n{\"b\": 1}";
    let documents = parse("dir/a.JSON", text);
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].as_ref().unwrap().root.text("a"), Some("😀/"));
    assert_eq!(documents[1].as_ref().unwrap().root.at, at(4, 1));
}

#[test]
fn json_is_strict() {
    for text in ["{a: 1}", "{\"a\": 01}", "[1,]", "{\"a\" 1}", "\"\u{1}\"", "[", "{\"a\":", "nul"] {
        let found = parse("a.json", text);
        assert!(found[0].is_err(), "{text}: {found:?}");
    }
    let Err(fault) = &parse("a.json", "{\n \"a\": x}")[0] else { panic!() };
    assert_eq!(fault.at, at(2, 7));
}

#[test]
fn a_broken_document_leaves_its_neighbours_alone() {
    let text = "a: 1\n---\nb: [\n---\nc: 3\n";
    let found = parse("a.yaml", text);
    assert_eq!(found.len(), 3);
    assert!(found[0].is_ok() && found[2].is_ok());
    let Err(fault) = &found[1] else { panic!() };
    assert_eq!(fault.code, Code::Syntax);
    assert!(fault.at.line >= 3 && fault.at.line <= 4, "{fault:?}");
    assert_eq!(found[2].as_ref().unwrap().root.entry("c").unwrap().key_at, at(5, 1));
}

#[test]
fn documents_are_cut_as_yaml_says() {
    assert_eq!(parse("a.yaml", "# only\n---\n\n...\n%YAML 1.2\n---\n# nothing\n").len(), 0);
    assert_eq!(parse("a.yaml", "%YAML 1.2\n---\na: 1\n...\n---\nb: 2\n").len(), 2);
    assert_eq!(parse("a.yaml", "---\na: |\n  ---\n  x\n").len(), 1);
    assert_eq!(parse("a.yaml", "--- {a: 1}\n").len(), 1);
    assert_eq!(parse("a.yaml", "\u{feff}a: 1\r\n---\r\nb: 1\r\n").len(), 2);
}

#[test]
fn equal_keys_are_a_fault_and_the_first_stays() {
    let document = one("a: 1\nb: 2\na: 3\n");
    assert_eq!(document.root.text("a"), Some("1"));
    assert_eq!(document.faults.len(), 1);
    assert_eq!((document.faults[0].code, document.faults[0].at), (Code::DuplicateKey, at(3, 1)));
    assert!(document.faults[0].message.contains("line 1"));
}

#[test]
fn aliases_and_merge_keys_are_expanded() {
    let root = one("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: [*b]\n").root;
    let used = &root.entry("use").unwrap().value;
    assert_eq!((used.text("x"), used.text("y")), (Some("1"), Some("3")));
    let Value::List(items) = &root.entry("list").unwrap().value.value else { panic!() };
    assert_eq!(items[0].text("y"), Some("2"));
}

#[test]
fn an_expansion_bomb_ends_at_the_limit() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let before = level - 1;
        let ten = vec![format!("*a{before}"); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{ten}]\n"));
    }
    assert_eq!(fault(&text).code, Code::TooManyNodes);
}

#[test]
fn what_has_no_meaning_is_refused() {
    for text in ["a: &x [*x]\n", "a: !env B\n", "? [a, b]\n: 1\n", "a: *nothing\n", "<<: 1\n"] {
        let code = fault(text).code;
        assert!(matches!(code, Code::UnsupportedYaml | Code::Syntax), "{text}: {code}");
    }
    assert_eq!(one("a: !!str 5\n").root.entry("a").map(|a| a.value.value.clone()), {
        Some(Value::Scalar(Scalar { text: "5".into(), style: Style::Quoted }))
    });
}

#[test]
fn depth_and_size_are_limited() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse("a.yaml", &deep(MAX_DEPTH))[0].is_ok());
    assert_eq!(fault(&deep(MAX_DEPTH + 1)).code, Code::TooDeep);
    let found = parse("a.json", &deep(MAX_DEPTH + 2));
    assert_eq!(found[0].as_ref().unwrap_err().code, Code::TooDeep);
    let block: String = (0..=MAX_DEPTH).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert_eq!(fault(&block).code, Code::TooDeep);
    let long = "x".repeat(MAX_FILE_BYTES + 1);
    assert_eq!(fault(&long).code, Code::FileTooLarge);
    let wide = format!("[{}]", "1,".repeat(MAX_NODES + 1));
    assert_eq!(fault(&wide).code, Code::TooManyNodes);
}

fn substituted(text: &str) -> Document {
    let mut document = one(text);
    substitute(&mut document, &|name| match name {
        "A" => Variable::Set("x: 1\n".into()),
        "B" => Variable::Unset,
        _ => Variable::Forbidden,
    });
    document
}

#[test]
fn variables_are_replaced_in_scalars_only() {
    let document = substituted("k: \"<${A}>\"\nd: ${B:-dflt}\ne: ${B:-}\n${A}: k\n");
    assert_eq!(document.root.text("k"), Some("<x: 1\n>"));
    assert_eq!(document.root.text("d"), Some("dflt"));
    assert_eq!(document.root.text("e"), Some(""));
    assert_eq!(document.root.text("${A}"), Some("k"));
    assert!(document.faults.is_empty());
}

#[test]
fn text_that_is_no_variable_stays() {
    let document = substituted("a: '^x${2}$'\nb: '$${A}'\nc: '${'\nd: '$${A}${A}'\n");
    assert_eq!(document.root.text("a"), Some("^x${2}$"));
    assert_eq!(document.root.text("b"), Some("${A}"));
    assert_eq!(document.root.text("c"), Some("${"));
    assert_eq!(document.root.text("d"), Some("${A}x: 1\n"));
}

#[test]
fn a_missing_variable_names_its_place() {
    let document = substituted("a:\n - ${B}\n - ${HOME}\n");
    let found: Vec<_> = document.faults.iter().map(|f| (f.code, f.at, f.path.as_str())).collect();
    let expected =
        [(Code::VariableUnset, at(2, 4), "a[0]"), (Code::VariableForbidden, at(3, 4), "a[1]")];
    assert_eq!(found, expected);
}

#[test]
fn a_path_finds_its_place_again() {
    let root = one("spec:\n  a:\n  - b: 1\n  - c.d: 2\n").root;
    assert_eq!(crate::path::locate(&root, "spec.a[0].b"), at(3, 5));
    assert_eq!(crate::path::locate(&root, "spec.a[1][\"c.d\"]"), at(4, 5));
    assert_eq!(crate::path::locate(&root, "spec.a[7].b"), at(2, 3));
    assert_eq!(crate::path::locate(&root, ""), at(1, 1));
    assert_eq!(crate::path::join("spec", "c.d"), "spec[\"c.d\"]");
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "[-a-z:&*!|>%@`'\"{}\\[\\],#?\\\\ \n\t0-9<]{0,60}") {
        let _ = parse("a.yaml", &text);
        let _ = parse("a.json", &text);
    }

    #[test]
    fn no_bytes_break_the_parser(text in any::<String>()) {
        let _ = parse("a.yaml", &text);
        let _ = parse("a.json", &text);
    }
}
