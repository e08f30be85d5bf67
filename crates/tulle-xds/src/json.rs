//! Messages as protobuf JSON, for people and for tools that know Envoy's `/config_dump`.
//!
//! Needs a descriptor pool, which costs memory: build it for one answer and drop it.

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use tulle_model::resource::Resource;

use crate::encode;
use crate::proto::{Any, DESCRIPTORS};

/// Writes messages as JSON.
#[derive(Debug)]
pub struct JsonWriter {
    pool: DescriptorPool,
}

/// Why a message cannot be written as JSON: a mistake of ours, as all messages here are known.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {type_url} as JSON: {reason}")]
pub struct JsonError {
    /// The message's type.
    pub type_url: String,
    /// Why.
    pub reason: String,
}

impl JsonWriter {
    /// Reads the descriptors.
    ///
    /// # Errors
    /// They are broken, which a test rules out.
    pub fn new() -> Result<Self, JsonError> {
        let broken = |error: prost_reflect::DescriptorError| JsonError {
            type_url: "descriptors".to_owned(),
            reason: error.to_string(),
        };
        Ok(Self { pool: DescriptorPool::decode(DESCRIPTORS).map_err(broken)? })
    }

    /// The message in `any` with its `@type`, fields by their names in the .proto files, defaults
    /// left out: as Envoy writes it.
    ///
    /// # Errors
    /// The type is not known, or the bytes are not of it.
    pub fn any(&self, any: &Any) -> Result<Value, JsonError> {
        let fail = |reason: String| JsonError { type_url: any.type_url.clone(), reason };
        let wrapped = self.pool.get_message_by_name("google.protobuf.Any");
        let wrapped = wrapped.ok_or_else(|| fail("Any is not known".to_owned()))?;
        let message = DynamicMessage::decode(wrapped, any.encode_to_vec().as_slice());
        let message = message.map_err(|error| fail(error.to_string()))?;
        let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
        message
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| fail(error.to_string()))
    }

    /// A resource as it travels.
    ///
    /// # Errors
    /// As [`any`](Self::any).
    pub fn resource(&self, resource: &Resource) -> Result<Value, JsonError> {
        self.any(&encode::resource(resource))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tulle_model::cluster::{Cluster, Discovery, Endpoint, Endpoints};
    use tulle_model::http::{HttpConnectionManager, RouteSource};
    use tulle_model::listener::{ChainMatch, FilterChain, Listener, NetworkFilter};

    use super::*;

    #[test]
    fn resources_look_as_in_envoys_dump() {
        let writer = JsonWriter::new().expect("good descriptors");
        let address = tulle_model::address::EndpointAddress::Socket(([127, 0, 0, 1], 80).into());
        let endpoints = Endpoints::of("c".into(), vec![Endpoint::new(address)]);
        let cluster = Cluster::new("c".into(), Discovery::Static(Arc::new(endpoints)));
        let json = writer.resource(&Resource::Cluster(Arc::new(cluster))).expect("written");
        assert_eq!(json["@type"], "type.googleapis.com/envoy.config.cluster.v3.Cluster");
        assert_eq!(json["connect_timeout"], "5s");
        let endpoint = &json["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
        assert_eq!(endpoint["address"]["socket_address"]["port_value"], 80);

        let mut listener = Listener::new("l".into());
        let manager = HttpConnectionManager::new("in", RouteSource::Discovered("r".into()));
        listener.chains = vec![Arc::new(FilterChain {
            name: "".into(),
            matches: ChainMatch::default(),
            tls: None,
            connect_timeout: None,
            network: NetworkFilter::Http(Arc::new(manager)),
            origin: None,
        })];
        let json = writer.resource(&Resource::Listener(Arc::new(listener))).expect("written");
        let filter = &json["filter_chains"][0]["filters"][0]["typed_config"];
        assert!(filter["@type"].as_str().is_some_and(|url| url.ends_with("HttpConnectionManager")));
        assert_eq!(filter["rds"]["route_config_name"], "r", "{json:#}");
    }
}
