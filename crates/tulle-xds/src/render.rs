//! Messages as JSON, in the form of Envoy's `/config_dump`: names as in the .proto files, packed
//! messages in place with `@type`.
//!
//! A [`Renderer`] holds the descriptors (some hundred kilobytes), so it is made for one answer and
//! dropped with it.

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::proto::{Any, DESCRIPTORS};

/// Why a message cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Its type, or that of a message packed inside it, is not known.
    #[error("`{0}` is not known")]
    Unknown(String),
    /// Its bytes are malformed.
    #[error("malformed {name}")]
    Malformed {
        /// Name of the message.
        name: String,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// A value has no form in JSON, or a packed message is not known or malformed.
    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Writes messages as JSON.
#[derive(Debug)]
pub struct Renderer {
    pool: DescriptorPool,
}

impl Renderer {
    /// Loads the descriptors.
    #[must_use]
    pub fn new() -> Self {
        // Compiled in and read by tests; were they broken, every type would be unknown.
        Self { pool: DescriptorPool::decode(DESCRIPTORS).unwrap_or_default() }
    }

    /// The message in `any`, with its `@type`.
    ///
    /// # Errors
    /// The message, or one packed inside it, is not known or malformed.
    pub fn render(&self, any: &Any) -> Result<Value, RenderError> {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let descriptor = self.pool.get_message_by_name(name);
        let descriptor = descriptor.ok_or_else(|| RenderError::Unknown(any.type_url.clone()))?;
        let message = DynamicMessage::decode(descriptor, any.value.clone())
            .map_err(|source| RenderError::Malformed { name: name.to_owned(), source })?;
        let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
        let value = message.serialize_with_options(serde_json::value::Serializer, &options)?;
        let Value::Object(fields) = value else {
            return Ok(value);
        };
        let kind = ("@type".to_owned(), Value::String(any.type_url.clone()));
        Ok(Value::Object(std::iter::once(kind).chain(fields).collect()))
    }
}

impl Default for Renderer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envoy::config::core::v3::{TransportSocket, transport_socket};
    use crate::proto::envoy::config::listener::v3::{FilterChain, Listener};
    use crate::proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
    use crate::proto::pack;

    fn listener(packed: Any) -> Any {
        let config_type = Some(transport_socket::ConfigType::TypedConfig(packed));
        let socket = TransportSocket { name: "t".to_owned(), config_type };
        let chain = FilterChain { transport_socket: Some(socket), ..FilterChain::default() };
        pack(&Listener {
            filter_chains: vec![chain],
            tcp_backlog_size: Some(7),
            listener_filters_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..Listener::default()
        })
    }

    #[test]
    fn names_are_those_of_the_files_and_packed_messages_are_in_place() {
        let value = Renderer::new().render(&listener(pack(&RawBuffer {}))).unwrap();
        let expected = serde_json::json!({
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "filter_chains": [{"transport_socket": {"name": "t", "typed_config": {
                "@type":
                    "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
            }}}],
            "tcp_backlog_size": 7,
            "listener_filters_timeout": "1s",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let unknown = Any { type_url: "type.googleapis.com/x.Y".to_owned(), ..Any::default() };
        let renderer = Renderer::new();
        assert!(matches!(renderer.render(&unknown), Err(RenderError::Unknown(_))));
        assert!(matches!(renderer.render(&listener(unknown)), Err(RenderError::Json(_))));
        let broken = Any { value: bytes::Bytes::from_static(&[0xff]), ..listener(Any::default()) };
        assert!(matches!(renderer.render(&broken), Err(RenderError::Malformed { .. })));
    }
}
