use super::*;
use crate::store::Nowhere;
use crate::store::directory::Directory;

fn entry(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  hosts: [\"{host}\"]\n  addresses: [10.1.2.3]\n  resolution: STATIC\n  \
         location: MESH_INTERNAL\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
         endpoints: [{{address: 127.0.0.1}}]\n"
    )
}

fn files(files: &[(&str, &str)]) -> FileSet {
    files.iter().map(|(path, text)| ((*path).into(), Content::Text((*text).into()))).collect()
}

/// Hosts of the services in force, and which of them are outdated.
fn hosts(configuration: &Configuration) -> Vec<String> {
    let host = |(id, object): (&ObjectId, &Arc<Object>)| {
        let tulle_config::Spec::ServiceEntry(entry) = &object.spec else { return id.to_string() };
        let old = if configuration.outdated.contains(id) { " (old)" } else { "" };
        format!("{}{old}", entry.hosts[0])
    };
    configuration.objects.iter().map(host).collect()
}

struct Scene {
    objects: Objects,
    writer: Writer,
}

impl Scene {
    fn new() -> Self {
        let writer = Writer::start(Box::new(Nowhere)).expect("a thread");
        Self { objects: Objects::restore(&Nowhere, Variables::default()), writer }
    }

    fn update(&mut self, set: &[(&str, &str)]) -> Configuration {
        self.objects.update(&files(set), &self.writer)
    }
}

#[test]
fn a_bad_object_keeps_its_last_good_version_and_harms_no_other() {
    let mut scene = Scene::new();
    let good = entry("order", "order.shop");
    let other = entry("stock", "stock.shop");
    assert_eq!(hosts(&scene.update(&[("a.yaml", &good)])), ["order.shop"]);

    let bad = good.replace("number: 80", "number: 99999") + "---\n" + &other;
    let found = scene.update(&[("a.yaml", &bad)]);
    assert_eq!(hosts(&found), ["order.shop (old)", "stock.shop"]);
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert_eq!(found.findings[0].file, "a.yaml");

    let mended = entry("order", "orders.shop");
    let found = scene.update(&[("a.yaml", &(mended + "---\n" + &other))]);
    assert_eq!(hosts(&found), ["orders.shop", "stock.shop"]);
    assert!(found.findings.is_empty());
}

#[test]
fn a_file_that_stops_parsing_keeps_what_was_read_from_it() {
    let mut scene = Scene::new();
    let good = entry("order", "order.shop");
    let other = entry("stock", "stock.shop");
    scene.update(&[("a.yaml", &good), ("b.yaml", &other)]);
    let found = scene.update(&[("a.yaml", "{ not: [yaml"), ("b.yaml", &other)]);
    assert_eq!(hosts(&found), ["order.shop (old)", "stock.shop"]);

    let mut set = files(&[("b.yaml", &other)]);
    set.insert("a.yaml".into(), Content::Unreadable("permission denied".into()));
    let found = scene.objects.update(&set, &scene.writer);
    assert_eq!(hosts(&found), ["order.shop (old)", "stock.shop"]);
    assert!(found.findings[0].to_string().contains("a.yaml:1:1: error[TUL0101]: permission"));

    let gone = scene.update(&[("b.yaml", &other)]);
    assert_eq!(hosts(&gone), ["stock.shop"], "a file that is deleted is meant to be");
}

#[test]
fn a_bad_file_survives_a_restart_harmlessly() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = entry("order", "order.shop");
    let start = || {
        let store = Directory::open(folder.path()).expect("open");
        let objects = Objects::restore(&store, Variables::default());
        (objects, Writer::start(Box::new(store)).expect("a thread"))
    };
    let (mut objects, writer) = start();
    objects.update(&files(&[("a.yaml", &good), ("b.yaml", &entry("x", "x.shop"))]), &writer);
    drop((objects, writer));

    let (mut objects, writer) = start();
    let bad = good.replace("hosts", "hoasts");
    let found = objects.update(&files(&[("a.yaml", &bad)]), &writer);
    assert_eq!(hosts(&found), ["order.shop (old)"], "b.yaml was deleted meanwhile");
    drop((objects, writer));

    let (mut objects, writer) = start();
    let found = objects.update(&files(&[("a.yaml", "{ not: [yaml")]), &writer);
    assert_eq!(hosts(&found), ["order.shop (old)"], "and once more");
    objects.update(&files(&[]), &writer);
    drop((objects, writer));

    let (objects, _writer) = start();
    assert!(objects.in_force.is_empty(), "what is gone is not kept");
}

#[test]
fn configuration_reads_allowed_variables_only() {
    let pairs = [("TULLE_HOST", "a.shop"), ("SECRET", "s")];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut scene = Scene::new();
    scene.objects.variables = Variables::of(vec![], pairs.into_iter());
    let allowed = entry("a", "${TULLE_HOST}");
    let forbidden = entry("b", "${SECRET}.shop");
    let found = scene.update(&[("a.yaml", &allowed), ("b.yaml", &forbidden)]);
    assert_eq!(hosts(&found), ["a.shop"]);
    let refusal = found.findings.iter().find(|finding| finding.code == Code::VariableForbidden);
    assert_eq!(refusal.map(|finding| &*finding.file), Some("b.yaml"));
}
