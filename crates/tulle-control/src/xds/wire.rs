//! Messages of the wire and messages of the session cores, one to one.

use std::sync::Arc;

use tulle_xds::proto::Any;
use tulle_xds::proto::envoy::service::discovery::v3 as discovery;
use tulle_xds::session::message::{
    DeltaRequest, DeltaResponse, Name, Nonce, Resource, ResourceType, SotwRequest, SotwResponse,
};

fn names(names: Vec<String>) -> Vec<Name> {
    names.into_iter().map(Arc::from).collect()
}

fn strings(names: Vec<Name>) -> Vec<String> {
    names.iter().map(|name| (**name).to_owned()).collect()
}

fn nonce(text: String) -> Option<Nonce> {
    (!text.is_empty()).then(|| text.into())
}

pub(super) fn delta_request(
    rtype: ResourceType,
    request: discovery::DeltaDiscoveryRequest,
) -> DeltaRequest {
    let versions = request.initial_resource_versions.into_iter();
    DeltaRequest {
        rtype,
        with_node: request.node.is_some(),
        subscribe: names(request.resource_names_subscribe),
        unsubscribe: names(request.resource_names_unsubscribe),
        initial_versions: versions.map(|(name, version)| (name.into(), version.into())).collect(),
        nonce: nonce(request.response_nonce),
        error: request.error_detail.map(|status| status.message),
    }
}

pub(super) fn delta_response(response: DeltaResponse) -> discovery::DeltaDiscoveryResponse {
    let type_url = response.rtype.type_url();
    let resource = |resource: Resource| discovery::Resource {
        name: (*resource.name).to_owned(),
        aliases: strings(resource.aliases),
        version: (*resource.version).to_owned(),
        resource: resource.body.map(|value| Any { type_url: type_url.to_owned(), value }),
        ..Default::default()
    };
    discovery::DeltaDiscoveryResponse {
        system_version_info: (*response.system_version).to_owned(),
        resources: response.resources.into_iter().map(resource).collect(),
        type_url: type_url.to_owned(),
        removed_resources: strings(response.removed),
        nonce: (*response.nonce).to_owned(),
        ..Default::default()
    }
}

pub(super) fn sotw_request(
    rtype: ResourceType,
    request: discovery::DiscoveryRequest,
) -> SotwRequest {
    SotwRequest {
        rtype,
        with_node: request.node.is_some(),
        version: request.version_info.into(),
        names: names(request.resource_names),
        nonce: nonce(request.response_nonce),
        error: request.error_detail.map(|status| status.message),
    }
}

pub(super) fn sotw_response(response: SotwResponse) -> discovery::DiscoveryResponse {
    let type_url = response.rtype.type_url();
    let bodies = response.resources.into_iter().filter_map(|resource| resource.body);
    let any = |value| Any { type_url: type_url.to_owned(), value };
    discovery::DiscoveryResponse {
        version_info: (*response.version).to_owned(),
        resources: bodies.map(any).collect(),
        type_url: type_url.to_owned(),
        nonce: (*response.nonce).to_owned(),
        ..Default::default()
    }
}
