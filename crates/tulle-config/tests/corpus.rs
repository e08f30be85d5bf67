//! Broken input and what is said about it: every file of `tests/corpus` is loaded beside a good
//! object, whose callers must be served exactly as if it stood alone, and its findings are compared
//! with the file of the same name ending in `.txt`. `UPDATE_GOLDEN=1` writes those anew. The same
//! files go through a running mesh in `tulle-lab/tests/corpus_live.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "UPDATE_GOLDEN is read here only")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tulle_config::world::MeshSettings;
use tulle_config::{
    Assembly, Bind, Client, Code, Diagnostic, Kind, ObjectId, Role, Variable, World, analyze,
    load::File, load::load, load::load_stored, translate,
};
use tulle_model::lookup::Needed;
use tulle_model::resource::Resource;

/// What every broken input stands beside.
const GOOD: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: good, namespace: good}
spec:
  hosts: [good.example]
  addresses: [10.250.0.1]
  ports: [{number: 8080, name: http}]
  resolution: STATIC
  endpoints: [{address: 10.251.0.1}]
";

fn variables(name: &str) -> Variable {
    match name {
        "TULLE_SET" => Variable::Set("80".into()),
        name if name.starts_with("TULLE_") => Variable::Unset,
        _ => Variable::Forbidden,
    }
}

fn inputs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_input = |path: &PathBuf| path.extension().is_some_and(|end| end != "txt");
    let mut inputs: Vec<PathBuf> = paths.filter(is_input).collect();
    inputs.sort();
    inputs
}

fn findings(path: &Path, text: &str) -> Vec<Diagnostic> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let files = [File { path: name, text }, File { path: "~good.yaml", text: GOOD }];
    let alone = served("the good object alone", &files[1..]);
    let kinds: BTreeSet<_> = alone.values().map(Resource::kind).collect();
    assert_eq!(kinds.len(), 4, "listener, routes, cluster and endpoints: {kinds:?}");
    assert_eq!(served(name, &files), alone, "{name} changes what callers of the good object get");
    if path.extension().is_some_and(|end| end == "yaml") {
        let text = format!("{GOOD}---\n{text}");
        let one = [File { path: name, text: &text }];
        assert_eq!(served(name, &one), alone, "{name} harms what stands before it in its file");
    }
    analyze(&files, Arc::default(), &variables)
}

/// Everything that a caller of the good object is sent, by what was needed.
fn served(name: &str, files: &[File<'_>]) -> BTreeMap<String, Resource> {
    let loaded = load(files, &variables);
    let id = ObjectId::new(Kind::ServiceEntry, "good", "good");
    assert!(loaded.objects.contains_key(&id), "{name} harms the good object");
    let objects = loaded.objects.into_values().map(|loaded| loaded.object);
    let world = World::new(Arc::new(MeshSettings::default()), objects, []);
    let client = Client {
        role: Role::Sidecar,
        assembly: Assembly::Tulle,
        namespace: "good".into(),
        name: "caller".into(),
        labels: Default::default(),
        addresses: Vec::new(),
        bind: Bind::default(),
    };
    let mut needed = vec![Needed::Listener("10.250.0.1:8080".into())];
    let mut served = BTreeMap::new();
    while let Some(need) = needed.pop() {
        let resource = translate(&need, &world, &client).resource;
        let resource = resource.unwrap_or_else(|| panic!("{name}: {need:?} is gone"));
        needed.extend(resource.references());
        served.insert(format!("{need:?}"), resource);
    }
    served
}

#[test]
fn every_broken_input_has_its_golden_findings() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in inputs() {
        let text = fs::read_to_string(&path).unwrap();
        let found = findings(&path, &text);
        assert!(!found.is_empty(), "{} is not broken", path.display());
        let lines: String = found.iter().map(|finding| format!("{finding}\n")).collect();
        let golden = path.with_extension("txt");
        if update {
            fs::write(&golden, &lines).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != lines {
            wrong.push(format!("{}:\n{lines}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "look, then UPDATE_GOLDEN=1\n{}", wrong.join("\n"));
}

#[test]
fn the_corpus_is_large_and_names_every_code() {
    let inputs = inputs();
    assert!(inputs.len() >= 60, "{} inputs", inputs.len());
    let mut seen = BTreeSet::new();
    for path in &inputs {
        let text = fs::read_to_string(path).unwrap();
        for finding in findings(path, &text) {
            assert!(finding.at.line > 0 && !finding.message.is_empty());
            assert!(!finding.help.is_empty(), "{finding} does not say what to do");
            seen.insert(finding.code);
        }
    }
    // Generated in the unit tests: too large for a file.
    let large = [Code::FileTooLarge, Code::TooManyNodes];
    let missing: Vec<&Code> =
        Code::ALL.iter().filter(|code| !seen.contains(code) && !large.contains(code)).collect();
    assert!(missing.is_empty(), "no input for {missing:?}");
}

proptest::proptest! {
    /// However a file is damaged, it is read to findings and never to a panic, and every object
    /// that is still accepted can be stored and read back.
    #[test]
    fn damaged_input_is_only_ever_a_finding(
        damage in proptest::collection::vec(
            (0usize..7000, "[-:{}\\[\\]*&'\"a0 \n]{0,3}", 0usize..12),
            1..8,
        ),
    ) {
        let mut text = include_str!("examples/everything.yaml").to_owned();
        for (at, insert, delete) in damage {
            let begin = at % text.len();
            let end = (begin + delete).min(text.len());
            if text.is_char_boundary(begin) && text.is_char_boundary(end) {
                text.replace_range(begin..end, &insert);
            }
        }
        let files = [File { path: "damaged.yaml", text: &text }];
        analyze(&files, Arc::default(), &variables);
        for loaded in load(&files, &variables).objects.into_values() {
            let stored = loaded.canonical();
            let again = load_stored(&[File { path: "stored.json", text: &stored }]);
            let found = again.objects.get(&loaded.object.id).map(|again| &again.object);
            proptest::prop_assert_eq!(found, Some(&loaded.object), "{}", stored);
        }
    }
}
