//! Messages of the session cores and messages of `envoy.service.discovery.v3`, one to one.

use std::sync::Arc;

use bytes::Bytes;

use crate::decode;
use crate::proto::envoy::service::discovery::v3 as pb;
use crate::proto::google::rpc;
use crate::proto::{Any, Packed, unpack};
use crate::session::message::{
    DeltaRequest, DeltaResponse, Name, Nonce, Resource, ResourceType, SotwRequest, SotwResponse,
    Version,
};

/// `INVALID_ARGUMENT`, the code of every NACK.
const INVALID_ARGUMENT: i32 = 3;

impl Packed for pb::Resource {
    const TYPE_URL: &'static str = "type.googleapis.com/envoy.service.discovery.v3.Resource";
}

/// A response that cannot be given to a core.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    /// Its type is not one that this mesh speaks, so nobody asked for it.
    #[error("a response of type `{0}`, which was not asked for")]
    Type(String),
    /// A resource in it has another type.
    #[error("a `{found}` among resources of type `{wanted}`")]
    Resource {
        /// Type URL of the response.
        wanted: &'static str,
        /// Type URL of the resource.
        found: String,
    },
}

/// A delta request as a server reads it.
pub fn read_delta_request(rtype: ResourceType, request: pb::DeltaDiscoveryRequest) -> DeltaRequest {
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

/// A delta request as a client writes it. The node is left out.
pub fn write_delta_request(request: DeltaRequest) -> pb::DeltaDiscoveryRequest {
    let versions = request.initial_versions.iter();
    let text = |text: &Arc<str>| (**text).to_owned();
    pb::DeltaDiscoveryRequest {
        type_url: request.rtype.type_url().to_owned(),
        resource_names_subscribe: strings(request.subscribe),
        resource_names_unsubscribe: strings(request.unsubscribe),
        initial_resource_versions: versions
            .map(|(name, version)| (text(name), text(version)))
            .collect(),
        response_nonce: request.nonce.as_ref().map_or_else(String::new, text),
        error_detail: request.error.map(nack),
        ..pb::DeltaDiscoveryRequest::default()
    }
}

/// A delta response as a server writes it.
pub fn write_delta_response(response: DeltaResponse) -> pb::DeltaDiscoveryResponse {
    let type_url = response.rtype.type_url();
    let resource = |resource: Resource| pb::Resource {
        name: (*resource.name).to_owned(),
        aliases: strings(resource.aliases),
        version: (*resource.version).to_owned(),
        resource: resource.body.map(|value| Any { type_url: type_url.to_owned(), value }),
        ..pb::Resource::default()
    };
    pb::DeltaDiscoveryResponse {
        system_version_info: (*response.system_version).to_owned(),
        resources: response.resources.into_iter().map(resource).collect(),
        type_url: type_url.to_owned(),
        removed_resources: strings(response.removed),
        nonce: (*response.nonce).to_owned(),
        ..pb::DeltaDiscoveryResponse::default()
    }
}

/// A delta response as a client reads it.
///
/// # Errors
/// The response, or a resource in it, is of a type that was not asked for.
pub fn read_delta_response(
    response: pb::DeltaDiscoveryResponse,
) -> Result<DeltaResponse, Unexpected> {
    let rtype = resource_type(response.type_url)?;
    let resource = |resource: pb::Resource| -> Result<Resource, Unexpected> {
        Ok(Resource {
            name: resource.name.into(),
            aliases: names(resource.aliases),
            version: resource.version.into(),
            body: resource.resource.map(|any| body(rtype, any)).transpose()?,
        })
    };
    Ok(DeltaResponse {
        rtype,
        nonce: response.nonce.into(),
        resources: response.resources.into_iter().map(resource).collect::<Result<_, _>>()?,
        removed: names(response.removed_resources),
        system_version: response.system_version_info.into(),
    })
}

/// A state-of-the-world request as a server reads it.
pub fn read_sotw_request(rtype: ResourceType, request: pb::DiscoveryRequest) -> SotwRequest {
    SotwRequest {
        rtype,
        with_node: request.node.is_some(),
        version: request.version_info.into(),
        names: names(request.resource_names),
        nonce: nonce(request.response_nonce),
        error: request.error_detail.map(|status| status.message),
    }
}

/// A state-of-the-world request as a client writes it. The node is left out.
pub fn write_sotw_request(request: SotwRequest) -> pb::DiscoveryRequest {
    pb::DiscoveryRequest {
        version_info: (*request.version).to_owned(),
        resource_names: strings(request.names),
        type_url: request.rtype.type_url().to_owned(),
        response_nonce: request.nonce.as_deref().unwrap_or_default().to_owned(),
        error_detail: request.error.map(nack),
        ..pb::DiscoveryRequest::default()
    }
}

/// A state-of-the-world response as a server writes it.
pub fn write_sotw_response(response: SotwResponse) -> pb::DiscoveryResponse {
    let type_url = response.rtype.type_url();
    let bodies = response.resources.into_iter().filter_map(|resource| resource.body);
    pb::DiscoveryResponse {
        version_info: (*response.version).to_owned(),
        resources: bodies.map(|value| Any { type_url: type_url.to_owned(), value }).collect(),
        type_url: type_url.to_owned(),
        nonce: (*response.nonce).to_owned(),
        ..pb::DiscoveryResponse::default()
    }
}

/// A state-of-the-world response as a client reads it. A resource may be wrapped in a
/// `discovery.v3.Resource`; the name of one that is not is read out of its body. The version of a
/// resource is that of the response which brought it.
///
/// # Errors
/// The response, or a resource in it, is of a type that was not asked for.
pub fn read_sotw_response(response: pb::DiscoveryResponse) -> Result<SotwResponse, Unexpected> {
    let rtype = resource_type(response.type_url)?;
    let version: Version = response.version_info.into();
    let resource = |any: Any| -> Result<Resource, Unexpected> {
        let (name, body) = match unpack::<pb::Resource>(&any) {
            Ok(wrapped) => {
                let body = wrapped.resource.map(|any| body(rtype, any)).transpose()?;
                (Some(wrapped.name).filter(|name| !name.is_empty()), body)
            }
            Err(_) => (None, Some(body(rtype, any)?)),
        };
        let name = name.or_else(|| decode::name_of(body.as_ref()?)).unwrap_or_default();
        Ok(Resource { name: name.into(), aliases: Vec::new(), version: version.clone(), body })
    };
    Ok(SotwResponse {
        rtype,
        version: version.clone(),
        nonce: response.nonce.into(),
        resources: response.resources.into_iter().map(resource).collect::<Result<_, _>>()?,
    })
}

fn resource_type(type_url: String) -> Result<ResourceType, Unexpected> {
    ResourceType::from_type_url(&type_url).ok_or(Unexpected::Type(type_url))
}

fn body(rtype: ResourceType, any: Any) -> Result<Bytes, Unexpected> {
    match any.type_url == rtype.type_url() {
        true => Ok(any.value),
        false => Err(Unexpected::Resource { wanted: rtype.type_url(), found: any.type_url }),
    }
}

fn names(names: Vec<String>) -> Vec<Name> {
    names.into_iter().map(Arc::from).collect()
}

fn strings(names: Vec<Name>) -> Vec<String> {
    names.iter().map(|name| (**name).to_owned()).collect()
}

fn nonce(text: String) -> Option<Nonce> {
    (!text.is_empty()).then(|| text.into())
}

fn nack(message: String) -> rpc::Status {
    rpc::Status { code: INVALID_ARGUMENT, message, ..rpc::Status::default() }
}

#[cfg(test)]
#[path = "wire/tests.rs"]
mod tests;
