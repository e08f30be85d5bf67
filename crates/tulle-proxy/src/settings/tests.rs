//! Command lines: what they mean, and what is said of those that mean nothing.

use super::*;

fn parse(line: &str) -> Result<Settings, UsageError> {
    Settings::parse(std::iter::once("tulle-proxy").chain(line.split_whitespace()))
}

fn sidecar(more: &str) -> SidecarSettings {
    let line = format!("sidecar --control 127.0.0.1:15010 --workload shop/order-1 {more}");
    match parse(&line) {
        Ok(Settings::Sidecar(settings)) => settings,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str, reason: &str) {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 2, "{line}");
    let text = error.to_string();
    assert!(text.contains(reason), "{line}: expected {reason:?} in {text}");
}

#[test]
fn flags_of_envoy() {
    let line = "-c a.yaml --config-yaml node: --mode validate --concurrency 3 --service-node n \
                --service-cluster c -l debug --drain-time-s 7 --reject-unknown-dynamic-fields \
                --base-id 4 --parent-shutdown-time-s 9 --drain-strategy immediate \
                --disable-hot-restart";
    let settings = parse(line).expect("good");
    let Settings::Envoy(envoy) = &settings else { panic!("{settings:?}") };
    let source = BootstrapSource { path: Some("a.yaml".into()), yaml: Some("node:".into()) };
    assert_eq!(envoy.bootstrap, source);
    assert_eq!(envoy.mode, Mode::Validate);
    assert_eq!(envoy.process.concurrency.get(), 3);
    assert_eq!(envoy.process.drain_time, Duration::from_secs(7));
    assert_eq!(envoy.process.drain_strategy, Strategy::Immediate);
    assert_eq!(envoy.process.log_level, logging::Level::Debug);
    assert!(envoy.process.reject_unknown_dynamic_fields);
    assert_eq!(
        (envoy.service_node.as_deref(), envoy.service_cluster.as_deref()),
        (Some("n"), Some("c"))
    );
    assert_eq!(settings.warnings().len(), 2, "{:?}", settings.warnings());
    assert!(parse("--config-path a.yaml").expect("good").warnings().is_empty());
    assert_eq!(parse("-c a --concurrency 0").expect("good").process().concurrency.get(), 1);
}

#[test]
fn a_sidecar_has_one_worker_and_takes_redirected_traffic() {
    let settings = sidecar("");
    assert_eq!(settings.process.concurrency.get(), 1);
    assert!(matches!(&settings.outbound, Outbound::Transparent(_)));
    assert!(settings.outbound.addresses().iter().all(|address| address.ip().is_loopback()));
    assert_eq!(settings.inbound.len(), 2);
    assert_eq!(settings.mesh.admin, "127.0.0.1:15000".parse().expect("good"));
    assert_eq!(settings.process.drain_time, Duration::from_secs(600));
    let address = "10.1.2.3".parse().expect("good");
    let node = settings.mesh.node_id(Role::Sidecar, address);
    assert_eq!(node, "sidecar~10.1.2.3~order-1.shop~shop.svc.cluster.local");
}

#[test]
fn a_sidecar_registers_its_service() {
    let settings = sidecar(
        "--labels app=order,version=v1 --service Order.Shop --port http:80:8080 --port grpc:9",
    );
    let service = settings.service.expect("registered");
    assert_eq!(service.host, "order.shop");
    let numbers: Vec<_> = service
        .ports
        .iter()
        .map(|port| (&*port.name, port.number.get(), port.application.get()))
        .collect();
    assert_eq!(numbers, [("http", 80, 8080), ("grpc", 9, 9)]);
    assert_eq!(settings.mesh.labels.0.len(), 2);
}

#[test]
fn without_root_nothing_redirected_is_expected() {
    let settings = sidecar("--explicit --inbound-port 19090:9090 --inbound-port [::1]:0:7070");
    assert_eq!(
        settings.outbound,
        Outbound::Explicit(vec!["127.0.0.1:15001".parse().expect("good")])
    );
    assert!(settings.inbound.is_empty());
    let ports: Vec<_> = settings
        .inbound_ports
        .iter()
        .map(|port| (port.listen.to_string(), port.application))
        .collect();
    assert_eq!(ports, [("0.0.0.0:19090".to_owned(), 9090), ("[::1]:0".to_owned(), 7070)]);
    let own = sidecar("--address 127.0.0.5 --inbound-port 19090:9090");
    assert_eq!(own.inbound_ports[0].listen.to_string(), "127.0.0.5:19090");
    assert!(own.inbound.is_empty());
    assert_eq!(sidecar("--explicit --inbound 0.0.0.0:1").inbound.len(), 1);
}

#[test]
fn control_planes_are_addresses_or_sockets() {
    for (text, expected) in [
        ("Control.mesh:15012", Ok("control.mesh:15012")),
        ("[::1]:15010", Ok("[::1]:15010")),
        ("unix:/run/x.sock", Ok("unix:/run/x.sock")),
        ("unix:x.sock", Err(())),
        ("control", Err(())),
        ("control:0", Err(())),
        ("http://control:1", Err(())),
    ] {
        let address = text.parse::<ControlAddress>();
        assert_eq!(
            address.map(|a| a.to_string()).map_err(drop),
            expected.map(str::to_owned),
            "{text}"
        );
    }
}

#[test]
fn gateways_need_labels() {
    let line = "gateway --control unix:/x --workload edge/g-1 --labels istio=ingressgateway";
    let Ok(Settings::Gateway(gateway)) = parse(line) else { panic!("{line}") };
    assert_eq!(gateway.mesh.workload.to_string(), "edge/g-1");
    refused("gateway --control a:1 --workload e/g", "--labels");
    refused("gateway --control a:1 --workload e/g --labels= ", "no Gateway can select it");
}

#[test]
fn bad_use_is_refused_with_what_to_write() {
    let sidecar = "sidecar --control a:1 --workload s/o ";
    for (more, reason) in [
        ("--port http:80", "--service"),
        ("--service a", "--port"),
        ("--forget-after-s 89", "89 is not in 90.."),
        ("--service a --port http", "NAME:NUMBER"),
        ("--service a --port http:0", "NAME:NUMBER"),
        ("--service a --port http:80:1:2", "NAME:NUMBER"),
        ("--service a --port http:80 --port web:80", "share"),
        ("--service a:80 --port http:80", "--port"),
        ("--service 10.0.0.1 --port http:80", "not a host name"),
        ("--labels app", "key=value"),
        ("--labels a=b,a=c", "twice"),
        ("--inbound-port 80", "LISTEN:APP"),
        ("--inbound-port 80:0", "LISTEN:APP"),
        ("--inbound-port 80:1 --inbound-port 80:2", "twice"),
        ("--explicit --outbound 10.0.0.1:15001", "not loopback"),
        ("--concurrency 5000", "at most"),
        ("-c x.yaml", "-c"),
        ("--token x", "--token"),
    ] {
        refused(&format!("{sidecar}{more}"), reason);
    }
    refused("sidecar --control a:1 --workload order", "NAMESPACE/NAME");
    refused("sidecar --control a:1 --workload a.b/order", "NAMESPACE/NAME");
    refused("", "-c FILE");
    refused("-c x --mode init_only", "init_only");
    refused("-c x -l loud", "loud");
}

#[test]
fn help_shows_an_example_and_is_no_error() {
    for line in ["--help", "sidecar --help", "gateway --help"] {
        let help = parse(line).expect_err("help");
        assert_eq!(help.exit_code(), 0, "{line}");
        assert!(help.to_string().contains("Example"), "{line}");
    }
}
