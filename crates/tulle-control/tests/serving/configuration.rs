//! From files to the wire.

use tulle_xds::session::message::ResourceType;

use crate::client::{Client, SotwClient};
use crate::scene::{Control, Place};

pub fn service(host: &str, address: &str, endpoint: &str) -> String {
    let name = host.replace('.', "-");
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  \
           hosts: [{host}]\n  \
           addresses: [{address}]\n  \
           location: MESH_INTERNAL\n  \
           resolution: STATIC\n  \
           ports: [{{number: 80, name: http, protocol: HTTP}}]\n  \
           endpoints: [{{address: {endpoint}, ports: {{http: 8080}}}}]\n"
    )
}

const ROUTE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: order, namespace: shop}
spec:
  hosts: [order.shop]
  http:
  - match: [{headers: {canary: {exact: 'yes'}}}]
    directResponse: {status: 418}
  - route: [{destination: {host: order.shop}}]
";

#[tokio::test]
async fn a_destination_is_answered_when_it_is_asked_for() {
    let order = service("order.shop", "10.1.2.3", "127.0.0.2");
    let place = Place::new(&[("order.yaml", &order), ("route.yaml", ROUTE)]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;

    let seen = client.fetch(ResourceType::Listener, "10.1.2.3:80").await;
    assert_eq!(seen.one().name, "order.shop:80");
    assert_eq!(seen.one().aliases, ["10.1.2.3:80"]);
    let seen = client.fetch(ResourceType::Route, "order.shop:80").await;
    assert!(seen.one().mentions("canary"), "{seen:?}");
    assert!(seen.one().mentions("outbound|80||order.shop"), "{seen:?}");
    client.fetch(ResourceType::Cluster, "outbound|80||order.shop").await.one();
    let seen = client.fetch(ResourceType::Endpoints, "outbound|80||order.shop").await;
    assert!(seen.one().mentions("127.0.0.2"), "{seen:?}");

    let seen = client.fetch(ResourceType::Listener, "10.9.9.9:80").await;
    assert_eq!(seen.only_removed(), ["10.9.9.9:80"]);
    control.stop().await;
}

#[tokio::test]
async fn an_edit_reaches_those_who_asked_and_nobody_else() {
    let order = service("order.shop", "10.1.2.3", "127.0.0.2");
    let stock = service("stock.shop", "10.1.2.4", "127.0.0.4");
    let place = Place::new(&[("order.yaml", &order), ("stock.yaml", &stock)]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    let name = "outbound|80||order.shop";
    let before = client.fetch(ResourceType::Endpoints, name).await;

    place.write("stock.yaml", &stock.replace("127.0.0.4", "127.0.0.5"));
    control.wait("/api/v1/generation", |json| json["generation"].as_u64() > Some(2)).await;
    place.write("order.yaml", &order.replace("127.0.0.2", "127.0.0.3"));
    let after = client.next().await;
    assert_eq!(after.rtype, ResourceType::Endpoints);
    assert!(after.one().mentions("127.0.0.3"), "{after:?}");
    assert_ne!(after.one().version, before.one().version);

    place.remove("order.yaml");
    assert_eq!(client.next().await.only_removed(), [name]);
    control.stop().await;
}

#[tokio::test]
async fn a_name_that_did_not_exist_is_told_when_it_does() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    let seen = client.fetch(ResourceType::Listener, "10.1.2.3:80").await;
    assert_eq!(seen.only_removed(), ["10.1.2.3:80"]);
    place.write("order.yaml", &service("order.shop", "10.1.2.0/24", "127.0.0.2"));
    let seen = client.next().await;
    assert_eq!(seen.one().name, "order.shop:80");
    assert_eq!(seen.one().aliases, ["10.1.2.3:80"]);
    control.stop().await;
}

#[tokio::test]
async fn bad_yaml_is_a_finding_and_the_last_good_stays_over_a_restart() {
    let order = service("order.shop", "10.1.2.3", "127.0.0.2");
    let place = Place::new(&[("order.yaml", &order)]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    let before = client.fetch(ResourceType::Endpoints, "outbound|80||order.shop").await;

    place.write("order.yaml", &order.replace("resolution: STATIC", "resolution: STATIK"));
    let json = control.wait("/api/v1/findings", |json| json["findings"][0].is_object()).await;
    assert_eq!(json["findings"][0]["path"], "spec.resolution", "{json}");
    assert_eq!(json["outdated"][0], "ServiceEntry shop/order-shop", "{json}");
    control.stop().await;

    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    let after = client.fetch(ResourceType::Endpoints, "outbound|80||order.shop").await;
    assert_eq!(after.one().version, before.one().version);
    assert_eq!(after.one().body, before.one().body, "byte for byte, over a restart");
    control.stop().await;
}

#[tokio::test]
async fn a_unix_socket_serves_and_goes_away() {
    let place = Place::new(&[]);
    let path = place.state.path().join("xds.sock");
    let endpoint = format!("unix:{}", path.display());
    for _ in 0..2 {
        let control = Control::start_at(&place, endpoint.parse().expect("good")).await;
        let mut client = Client::connect(&control).await;
        let seen = client.fetch(ResourceType::Listener, "x.shop:80").await;
        assert_eq!(seen.only_removed(), ["x.shop:80"]);
        control.stop().await;
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_stream_without_a_node_is_refused_with_a_reason() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    client.say(Default::default()).await;
    let status = client.end().await;
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(status.message().contains("no node"), "{status}");
    control.stop().await;
}

#[tokio::test]
async fn one_can_wait_until_everybody_holds_an_edit() {
    let order = service("order.shop", "10.1.2.3", "127.0.0.2");
    let place = Place::new(&[("order.yaml", &order)]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    client.fetch(ResourceType::Endpoints, "outbound|80||order.shop").await;
    let before = control.json("/api/v1/wait").await["generation"].as_u64().expect("a number");

    let next = format!("/api/v1/wait?generation={}", before + 1);
    let (status, _) = control.call("GET", &format!("{next}&seconds=0"), "").await;
    assert_eq!(status, 504, "nothing was edited");
    place.write("order.yaml", &order.replace("127.0.0.2", "127.0.0.3"));
    let taken = async {
        // Not read and so not accepted before it is waited for.
        control.wait("/api/v1/generation", |json| json["generation"] == before + 1).await;
        let (status, _) = control.call("GET", &format!("{next}&seconds=0"), "").await;
        assert_eq!(status, 504, "nobody has accepted it");
        client.next().await
    };
    let (waited, seen) = tokio::join!(control.json(&next), taken);
    assert!(seen.one().mentions("127.0.0.3"));
    assert_eq!((&waited["generation"], &waited["streams"]), (&(before + 1).into(), &1.into()));
    control.stop().await;
}

#[tokio::test]
async fn what_is_wrong_between_objects_is_found() {
    let lost = ROUTE.replace("destination: {host: order.shop}", "destination: {host: lost.shop}");
    let place = Place::new(&[("route.yaml", &lost)]);
    let control = Control::start(&place).await;
    let json = control
        .wait("/api/v1/findings", |json| json["findings"].to_string().contains("lost.shop"))
        .await;
    assert!(json["findings"].to_string().contains("TUL0401"), "{json}");
    control.stop().await;
}

#[tokio::test]
async fn an_origin_is_found_in_its_file() {
    let place = Place::new(&[("route.yaml", ROUTE)]);
    let control = Control::start(&place).await;
    let path = "/api/v1/origin?origin=VirtualService+shop/order+spec.http%5B1%5D.route%5B0%5D";
    let json = control.json(path).await;
    assert_eq!((&json["line"], &json["column"]), (&9.into(), &13.into()), "{json}");
    assert!(json["file"].as_str().is_some_and(|file| file.ends_with("/route.yaml")), "{json}");
    let path = "/api/v1/origin?origin=VirtualService+shop/other";
    let (status, _) = control.call("GET", path, "").await;
    assert_eq!(status, 404);
    control.stop().await;
}

#[tokio::test]
async fn a_stock_envoy_gets_everything_in_state_of_the_world() {
    let order = service("order.shop", "10.1.2.3", "127.0.0.2");
    let place = Place::new(&[("order.yaml", &order)]);
    let control = Control::start(&place).await;
    let mut client = SotwClient::connect(&control).await;
    let clusters = client.subscribe(ResourceType::Cluster, &[]).await;
    assert!(clusters.names.contains(&"outbound|80||order.shop".to_owned()), "{clusters:?}");
    let name = "outbound|80||order.shop";
    let endpoints = client.subscribe(ResourceType::Endpoints, &[name]).await;
    assert_eq!(endpoints.names, [name]);
    let listeners = client.subscribe(ResourceType::Listener, &[]).await;
    let expected = ["10.1.2.3:80", "virtualInbound", "virtualOutbound"];
    assert_eq!(listeners.names, expected, "{listeners:?}");

    place.write("order.yaml", &order.replace("127.0.0.2", "127.0.0.3"));
    let changed = client.next().await;
    assert_eq!((changed.rtype, &*changed.names), (ResourceType::Endpoints, &[name.to_owned()][..]));
    assert_ne!(changed.version, endpoints.version);
    control.stop().await;
}
