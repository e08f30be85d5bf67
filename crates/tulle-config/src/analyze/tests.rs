use super::*;

fn lines(text: &str) -> Vec<String> {
    let files = [File { path: "a.yaml", text }];
    let found = analyze(&files, Arc::default(), &|_| Variable::Forbidden);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn the_founding_example_has_only_its_masked_networks() {
    let found = lines(include_str!("../../tests/examples/route-by-header.yaml"));
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|line| line.contains("warning[TUL0315]")), "{found:#?}");
}

#[test]
fn a_finding_points_at_the_field() {
    let found = lines(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: a}
spec:
  hosts: [x]
  http:
  - route:
    - destination:
        host: y
",
    );
    assert_eq!(
        found,
        ["a.yaml:9:9: error[TUL0401] spec.http[0].route[0].destination.host: \
          no service has the host y; there is none yet"]
    );
}
