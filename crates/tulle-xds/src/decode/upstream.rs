//! The protocol spoken to the endpoints of a cluster, in its old form (fields of the cluster) and
//! in its new one (an extension).

use std::collections::BTreeMap;

use tulle_model::cluster::UpstreamProtocol;
use tulle_model::http::{HeaderUnderscores, Http1Settings};

use super::protocol::{self, Common};
use super::value::{enumeration, typed};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::cluster::v3::cluster::ClusterProtocolSelection;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::extensions::upstreams::http::v3 as pb;
use crate::proto::{Any, Packed};

/// Key of the extension that says all of it.
pub const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The fields of a cluster that say it.
pub struct Protocols {
    /// Of both protocols.
    pub common: Option<core::HttpProtocolOptions>,
    /// Of HTTP/1.
    pub http1: Option<core::Http1ProtocolOptions>,
    /// Of HTTP/2, which this switches on.
    pub http2: Option<core::Http2ProtocolOptions>,
    /// Whether the protocol is that of the request.
    pub selection: i32,
    /// The new form.
    pub extensions: BTreeMap<String, Any>,
}

/// What they say.
pub struct Chosen {
    /// The protocol.
    pub protocol: UpstreamProtocol,
    /// Options of both protocols.
    pub common: Common,
}

impl Protocols {
    /// Reads either form.
    pub fn decode(self, at: &At<'_>) -> Option<Chosen> {
        chosen(self, at)
    }
}

fn chosen(fields: Protocols, at: &At<'_>) -> Option<Chosen> {
    let mut extensions = fields.extensions;
    let options = extensions.remove(OPTIONS);
    for name in extensions.keys() {
        at.entry("typed_extension_protocol_options", name).warn("has no effect: it is not known");
    }
    let Some(any) = options else {
        let common = upstream_common(fields.common, at);
        http1(fields.http1, &at.field("http_protocol_options"));
        let is_http2 = fields.http2.is_some();
        let http2 = http2(fields.http2, &at.field("http2_protocol_options"));
        let protocol = match enumeration(fields.selection, at, "protocol_selection")? {
            ClusterProtocolSelection::UseDownstreamProtocol => UpstreamProtocol::Downstream(http2),
            ClusterProtocolSelection::UseConfiguredProtocol if is_http2 => {
                UpstreamProtocol::Http2(http2)
            }
            ClusterProtocolSelection::UseConfiguredProtocol => UpstreamProtocol::Http1,
        };
        return Some(Chosen { protocol, common });
    };
    let at = at.entry("typed_extension_protocol_options", OPTIONS);
    if fields.common.is_some() || fields.http1.is_some() || fields.http2.is_some() {
        return at.fail("cannot be set together with protocol options of the cluster");
    }
    if any.type_url != pb::HttpProtocolOptions::TYPE_URL {
        return super::value::unknown_type(&any, &at);
    }
    extension(typed(&any, &at)?, &at)
}

fn upstream_common(message: Option<core::HttpProtocolOptions>, at: &At<'_>) -> Common {
    let common = protocol::common(message, at);
    if common.underscores != HeaderUnderscores::Allow {
        at.field("common_http_protocol_options")
            .field("headers_with_underscores_action")
            .error("is a setting of a listener: headers of responses are passed on");
    }
    common
}

fn extension(message: pb::HttpProtocolOptions, at: &At<'_>) -> Option<Chosen> {
    use pb::http_protocol_options::UpstreamProtocolOptions as Kind;
    fields!(at, message => pb::HttpProtocolOptions
        ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] {
        used: common_http_protocol_options, upstream_protocol_options;
        variants: auto_config "ALPN does not choose the protocol";
        refused: upstream_http_protocol_options "write the name in `sni`",
            http_filters "filters run once for a request",
            header_validation_config "the rules for headers are fixed",
            request_mirror_policies "requests are not mirrored",
            hash_policy "write it in the routes", retry_policy "write it in the routes";
        warned: outlier_detection "statuses of 500 and above count";
    });
    let common = upstream_common(common_http_protocol_options, at);
    let protocol = match upstream_protocol_options {
        Some(Kind::ExplicitHttpConfig(message)) => {
            explicit(message, &at.field("explicit_http_config"))?
        }
        Some(Kind::UseDownstreamProtocolConfig(message)) => {
            downstream(message, &at.field("use_downstream_protocol_config"))
        }
        Some(Kind::AutoConfig(_)) => {
            at.refuse::<pb::HttpProtocolOptions>("auto_config");
            return None;
        }
        None => return at.field("explicit_http_config").fail("is missing"),
    };
    Some(Chosen { protocol, common })
}

fn explicit(
    message: pb::http_protocol_options::ExplicitHttpConfig,
    at: &At<'_>,
) -> Option<UpstreamProtocol> {
    use pb::http_protocol_options::ExplicitHttpConfig;
    use pb::http_protocol_options::explicit_http_config::ProtocolConfig;
    fields!(at, message => ExplicitHttpConfig
        ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig"] {
        used: protocol_config;
        variants: http3_protocol_options "HTTP/3 is not supported";
    });
    match protocol_config {
        Some(ProtocolConfig::HttpProtocolOptions(message)) => {
            http1(Some(message), &at.field("http_protocol_options"));
            Some(UpstreamProtocol::Http1)
        }
        Some(ProtocolConfig::Http2ProtocolOptions(message)) => {
            let at = at.field("http2_protocol_options");
            Some(UpstreamProtocol::Http2(protocol::http2(message, &at)))
        }
        Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
            at.refuse::<ExplicitHttpConfig>("http3_protocol_options");
            None
        }
        None => at.fail("names no protocol"),
    }
}

fn downstream(
    message: pb::http_protocol_options::UseDownstreamHttpConfig,
    at: &At<'_>,
) -> UpstreamProtocol {
    use pb::http_protocol_options::UseDownstreamHttpConfig;
    fields!(at, message => UseDownstreamHttpConfig
        ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig"] {
        used: http_protocol_options, http2_protocol_options;
        refused: http3_protocol_options "HTTP/3 is not supported";
    });
    http1(http_protocol_options, &at.field("http_protocol_options"));
    UpstreamProtocol::Downstream(http2(http2_protocol_options, &at.field("http2_protocol_options")))
}

fn http2(
    message: Option<core::Http2ProtocolOptions>,
    at: &At<'_>,
) -> tulle_model::http::Http2Settings {
    message.map_or_else(Default::default, |message| protocol::http2(message, at))
}

/// Of HTTP/1 a cluster has nothing to choose: names keep their case, trailers are passed on.
fn http1(message: Option<core::Http1ProtocolOptions>, at: &At<'_>) {
    let Some(message) = message else { return };
    let settings = protocol::http1(message, at);
    let kept = Http1Settings {
        preserve_case: settings.preserve_case,
        enable_trailers: settings.enable_trailers,
        ..Http1Settings::default()
    };
    if settings != kept {
        at.warn("has no effect: these are settings of a listener");
    }
}
