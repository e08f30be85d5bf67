//! What one side writes the other reads.

use std::collections::BTreeMap;

use prost::Message;

use super::*;

const CDS: ResourceType = ResourceType::Cluster;

fn cluster(name: &str) -> Bytes {
    let cluster = crate::proto::envoy::config::cluster::v3::Cluster {
        name: name.to_owned(),
        ..Default::default()
    };
    cluster.encode_to_vec().into()
}

fn resource(name: &str, body: Option<Bytes>) -> Resource {
    Resource { name: name.into(), aliases: vec!["x".into()], version: "v1".into(), body }
}

#[test]
fn a_delta_request_arrives_as_it_was() {
    let request = DeltaRequest {
        rtype: CDS,
        with_node: false,
        subscribe: vec!["a".into()],
        unsubscribe: vec!["b".into()],
        initial_versions: BTreeMap::from([("c".into(), "v1".into())]),
        nonce: Some("n".into()),
        error: Some("c: bad".into()),
    };
    let wire = write_delta_request(request.clone());
    assert_eq!(wire.type_url, CDS.type_url());
    assert_eq!(read_delta_request(CDS, wire), request);
    let empty = DeltaRequest::new(CDS);
    assert_eq!(read_delta_request(CDS, write_delta_request(empty.clone())), empty);
}

#[test]
fn a_delta_response_arrives_as_it_was() {
    let response = DeltaResponse {
        rtype: CDS,
        nonce: "n".into(),
        resources: vec![resource("a", Some(cluster("a"))), resource("beat", None)],
        removed: vec!["b".into()],
        system_version: "s".into(),
    };
    assert_eq!(read_delta_response(write_delta_response(response.clone())), Ok(response));
}

#[test]
fn a_state_of_the_world_request_arrives_as_it_was() {
    let request = SotwRequest {
        rtype: CDS,
        with_node: false,
        version: "v".into(),
        names: vec!["a".into()],
        nonce: Some("n".into()),
        error: Some("a: bad".into()),
    };
    assert_eq!(read_sotw_request(CDS, write_sotw_request(request.clone())), request);
}

#[test]
fn names_of_a_state_of_the_world_are_in_the_bodies_or_in_a_wrapper() {
    let plain = Resource {
        name: "a".into(),
        aliases: vec![],
        version: "v".into(),
        body: Some(cluster("a")),
    };
    let response = SotwResponse {
        rtype: CDS,
        version: "v".into(),
        nonce: "n".into(),
        resources: vec![plain.clone()],
    };
    let mut wire = write_sotw_response(response.clone());
    assert_eq!(read_sotw_response(wire.clone()), Ok(response.clone()));
    let any = wire.resources.remove(0);
    let wrapped = pb::Resource { name: "a".into(), resource: Some(any), ..Default::default() };
    wire.resources.push(crate::proto::pack(&wrapped));
    assert_eq!(read_sotw_response(wire), Ok(response));
}

#[test]
fn types_nobody_asked_for_are_refused() {
    let unknown = pb::DeltaDiscoveryResponse { type_url: "x".into(), ..Default::default() };
    assert_eq!(read_delta_response(unknown), Err(Unexpected::Type("x".into())));
    let listener = ResourceType::Listener;
    let mut mixed = write_delta_response(DeltaResponse {
        rtype: CDS,
        nonce: "n".into(),
        resources: vec![resource("a", Some(cluster("a")))],
        removed: vec![],
        system_version: "".into(),
    });
    mixed.type_url = listener.type_url().to_owned();
    let found = CDS.type_url().to_owned();
    let wanted = listener.type_url();
    assert_eq!(read_delta_response(mixed), Err(Unexpected::Resource { wanted, found }));
}
