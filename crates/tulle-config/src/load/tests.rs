use tulle_model::head::HeaderName;

use super::*;
use crate::istio::{HttpAction, Resolution, TextMatch};
use crate::object::{Kind, Spec};

fn no_variables(_: &str) -> Variable {
    Variable::Forbidden
}

fn loaded(files: &[(&str, &str)]) -> Loaded {
    let files: Vec<File<'_>> = files.iter().map(|(path, text)| File { path, text }).collect();
    load(&files, &no_variables)
}

fn lines(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(ToString::to_string).collect()
}

const FOUNDING: &str = include_str!("../../tests/examples/route-by-header.yaml");

#[test]
fn the_founding_example_loads_unmodified() {
    let loaded = loaded(&[("route-by-header.yaml", FOUNDING)]);
    assert_eq!(loaded.objects.len(), 4);
    assert!(!loaded.has_errors(), "{:?}", lines(&loaded));
    assert_eq!(
        lines(&loaded)[0],
        "route-by-header.yaml:10:5: warning[TUL0315] spec.addresses[0]: \
         172.16.17.32/24 has host bits set: all of 172.16.17.0/24 matches; write 172.16.17.0/24"
    );
    let id = ObjectId::new(Kind::ServiceEntry, "test", "orderservice");
    let Spec::ServiceEntry(entry) = &loaded.objects[&id].object.spec else { panic!() };
    assert_eq!(entry.resolution, Resolution::Static);
    assert_eq!(entry.endpoints[1].labels["region"], "us-east1");
    let id = ObjectId::new(Kind::VirtualService, "test", "route-by-header");
    let Spec::VirtualService(rules) = &loaded.objects[&id].object.spec else { panic!() };
    assert_eq!(rules.http.len(), 3);
    let exact = TextMatch::Exact("stockservice".into());
    assert_eq!(rules.http[1].matches[0].headers[&HeaderName::parse("service").unwrap()], exact);
    let HttpAction::Route(destinations, None) = &rules.http[2].action else { panic!() };
    assert_eq!(destinations[0].destination.host.as_str(), "paymentservice");
}

#[test]
fn a_rule_is_found_again_by_its_path() {
    let loaded = loaded(&[("a.yaml", FOUNDING)]);
    let id = ObjectId::new(Kind::VirtualService, "test", "route-by-header");
    let map = loaded.source_map();
    let place = map.place(&id, "spec.http[1].match[0].headers.service").unwrap();
    assert_eq!((&*place.file, place.at.line, place.at.column), ("a.yaml", 102, 9));
    assert!(map.place(&ObjectId::new(Kind::Gateway, "a", "b"), "").is_none());
}

const GOOD: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: good}
spec:
  hosts: [good.example]
  ports: [{number: 80, name: http}]
  resolution: DNS
";

#[test]
fn the_first_path_wins_whatever_the_order_given() {
    let loaded = loaded(&[("b.yaml", GOOD), ("a.yaml", GOOD)]);
    let id = ObjectId::new(Kind::ServiceEntry, "default", "good");
    assert_eq!(&*loaded.objects[&id].source.file, "a.yaml");
    assert_eq!(
        lines(&loaded),
        ["b.yaml:1:1: error[TUL0205] ServiceEntry default/good: ServiceEntry default/good is \
          already defined at a.yaml:1, which wins; remove or rename one of them"]
    );
}

#[test]
fn what_was_refused_is_named_for_the_store() {
    let bad = GOOD.replace("resolution: DNS", "resolution: SOMEHOW");
    let loaded = loaded(&[("bad.yaml", &bad), ("torn.yaml", "a: [\n---\na: 1\n")]);
    let id = ObjectId::new(Kind::ServiceEntry, "default", "good");
    assert_eq!(loaded.refused.iter().collect::<Vec<_>>(), [&id]);
    assert_eq!(loaded.unreadable.iter().collect::<Vec<_>>(), ["torn.yaml"]);
    assert!(loaded.objects.is_empty());
}

#[test]
fn a_list_is_its_items() {
    let indented = GOOD.replace('\n', "\n  ");
    let other = indented.replace("name: good", "name: other");
    let twice = other.replace("resolution: DNS", "resolution: DNS\n    resolution: DNS");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {indented}\n- {twice}\n");
    let loaded = loaded(&[("list.yaml", &list)]);
    assert_eq!(loaded.objects.len(), 1, "{:?}", lines(&loaded));
    let refused = ObjectId::new(Kind::ServiceEntry, "default", "other");
    assert!(loaded.refused.contains(&refused));
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.diagnostics[0].code, Code::DuplicateKey);
}

#[test]
fn canonical_text_loads_to_the_same_object() {
    let text =
        FOUNDING.replace("number: 80", "number: +80").replace("exact: \"order", "exact: \"${");
    let first = loaded(&[("a.yaml", &text)]);
    for (id, object) in &first.objects {
        let stored = object.canonical();
        let again = load_stored(&[File { path: "store/x.json", text: &stored }]);
        assert!(again.diagnostics.iter().all(|d| !d.is_error()), "{:?}", lines(&again));
        assert_eq!(again.objects[id].object, object.object);
        assert_eq!(again.objects[id].canonical(), stored);
    }
}

#[test]
fn canonical_text_ignores_what_kubernetes_writes() {
    let exported = format!(
        "{}status: {{x: 1}}\n",
        GOOD.replace("{name: good}", "{name: good, uid: x, generation: 3}")
    );
    let (plain, exported) = (loaded(&[("a", GOOD)]), loaded(&[("a", &exported)]));
    let text = |loaded: &Loaded| loaded.objects.values().next().unwrap().canonical();
    assert_eq!(text(&plain), text(&exported));
}

#[test]
fn variables_make_typed_values() {
    let text =
        GOOD.replace("80", "'${TULLE_PORT}'").replace("good.example", "\"${TULLE_HOST:-h.x}\"");
    let lookup = |name: &str| match name {
        "TULLE_PORT" => Variable::Set("8080".into()),
        _ => Variable::Unset,
    };
    let loaded = load(&[File { path: "a", text: &text }], &lookup);
    let Spec::ServiceEntry(entry) = &loaded.objects.values().next().unwrap().object.spec else {
        panic!()
    };
    assert_eq!(entry.ports[0].number, 8080);
    assert_eq!(entry.hosts[0].to_string(), "h.x");
    let stored = loaded.objects.values().next().unwrap().canonical();
    let again = load_stored(&[File { path: "x.json", text: &stored }]);
    let object = again.objects.values().next().unwrap();
    assert_eq!(object.object.spec, Spec::ServiceEntry(entry.clone()));
    assert_eq!(object.canonical(), stored);
}

#[test]
fn loading_again_reads_what_changed_and_says_the_same() {
    let bad = GOOD.replace("name: good", "name: bad").replace("ports", "prots");
    let moved = GOOD.replace("good.example", "moved.example");
    let steps: [&[(&str, &str)]; 5] = [
        &[("a.yaml", GOOD), ("b.yaml", &bad)],
        &[("a.yaml", GOOD), ("b.yaml", &moved)],
        &[("a.yaml", "{ not: [yaml"), ("b.yaml", &moved)],
        &[("b.yaml", &moved), ("c.yaml", &bad)],
        &[("a.yaml", GOOD), ("c.yaml", &bad)],
    ];
    let mut loader = Loader::default();
    let mut last: Option<Loaded> = None;
    for step in steps {
        let fresh = loaded(step);
        let files = step.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect();
        let again = loader.load(&files, &no_variables);
        assert_eq!(lines(&again), lines(&fresh));
        assert_eq!((&again.refused, &again.unreadable), (&fresh.refused, &fresh.unreadable));
        let objects = |loaded: &Loaded| -> Vec<Object> {
            loaded.objects.values().map(|loaded| (*loaded.object).clone()).collect()
        };
        assert_eq!(objects(&again), objects(&fresh));
        for (id, found) in &again.objects {
            let before = last.as_ref().and_then(|last| last.objects.get(id));
            let before = before.filter(|before| before.source.file == found.source.file);
            let shared = before.is_none_or(|before| Arc::ptr_eq(&before.object, &found.object));
            assert!(shared, "{id} was not read anew");
        }
        last = Some(again);
    }
}
