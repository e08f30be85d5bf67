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

/// A service entry with so many hosts, addresses and TCP ports.
fn entry(name: usize, [hosts, addresses, ports]: [usize; 3]) -> String {
    let hosts: Vec<String> = (0..hosts).map(|n| format!("h{n}.s{name}.test")).collect();
    let addresses: Vec<String> =
        (0..addresses).map(|n| format!("10.0.{}.{}", n / 256, n % 256)).collect();
    let port = |n| format!("{{number: {n}, name: tcp-{n}, protocol: TCP}}");
    let ports: Vec<String> = (1..=ports).map(port).collect();
    let [hosts, addresses, ports] = [hosts, addresses, ports].map(|list| list.join(", "));
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s{name}, namespace: a}}
spec:
  hosts: [{hosts}]
  addresses: [{addresses}]
  ports: [{ports}]
---
"
    )
}

#[test]
fn findings_do_not_multiply_hosts_addresses_and_ports() {
    let found = lines(&[entry(1, [40, 50, 60]), entry(2, [40, 50, 60])].concat());
    let shared = found.iter().filter(|line| line.contains("connections all go to")).count();
    assert_eq!(shared, 2 * 50, "one for each address of an entry");
}

#[test]
fn entries_of_one_host_are_held_against_the_first_not_against_each_other() {
    let http = |n: usize| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s{n:03}, namespace: a}}
spec:
  hosts: [same.test]
  ports: [{{number: 80, name: p, protocol: {}}}]
  resolution: {}
---
",
            if n == 0 { "HTTP" } else { "TCP" },
            if n == 0 { "NONE" } else { "DNS" },
        )
    };
    let found = lines(&(0..200).map(http).collect::<String>());
    let of = |part: &str| found.iter().filter(|line| line.contains(part)).count();
    assert_eq!(of("another resolution in ServiceEntry a/s000"), 199);
    assert_eq!(of("another protocol in ServiceEntry a/s000"), 199);
    assert_eq!(of("another resolution"), 199);
}

#[test]
fn the_lists_of_a_service_entry_have_istios_limits() {
    assert!(!lines(&entry(1, [256, 1, 1])).iter().any(|line| line.contains("at most")));
    let found = lines(&entry(1, [257, 1, 1]));
    assert!(found[0].contains("spec.hosts: 257 hosts, at most 256 are taken"), "{found:?}");
    let found = lines(&entry(1, [1, 150_000, 1]));
    assert!(found[0].contains("150000 addresses, at most 256"), "{found:?}");
}
