//! Single values: durations, names, addresses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tulle_model::address::EndpointAddress;
use tulle_model::head::HeaderName;
use tulle_model::matcher::Fraction;

use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::r#type::v3 as kinds;
use crate::proto::{Packed, pack};

/// A duration. The decoder takes no more than a hundred years, so seconds always fit.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// A time limit that is zero for never, and left out where it is the default.
pub fn limit(limit: Option<Duration>, default: Option<Duration>) -> Option<prost_types::Duration> {
    (limit != default).then(|| duration(limit.unwrap_or(Duration::ZERO)))
}

/// A value, left out where it is the default.
pub fn unless<T: PartialEq>(value: T, default: &T) -> Option<T> {
    (value != *default).then_some(value)
}

/// A flag, left out where it is false.
pub fn flag(on: bool) -> Option<bool> {
    on.then_some(true)
}

/// Texts, owned.
pub fn owned(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

/// A name to match or hash, in the form every xDS client knows.
pub fn header_name(name: &HeaderName) -> String {
    match name.as_str() {
        "host" => ":authority".to_owned(),
        name => name.to_owned(),
    }
}

/// A chance.
pub fn fraction(fraction: Fraction) -> kinds::FractionalPercent {
    use kinds::fractional_percent::DenominatorType;
    let (numerator, denominator) = match fraction.denominator {
        100 => (fraction.numerator, DenominatorType::Hundred),
        10_000 => (fraction.numerator, DenominatorType::TenThousand),
        1_000_000 => (fraction.numerator, DenominatorType::Million),
        other => {
            let parts = u64::from(fraction.numerator) * 1_000_000 / u64::from(other.max(1));
            (u32::try_from(parts).unwrap_or(u32::MAX), DenominatorType::Million)
        }
    };
    kinds::FractionalPercent { numerator, denominator: denominator.into() }
}

/// A chance that nothing changes.
pub fn runtime_fraction(chance: Fraction) -> core::RuntimeFractionalPercent {
    core::RuntimeFractionalPercent {
        default_value: Some(fraction(chance)),
        runtime_key: String::new(),
    }
}

/// An address range.
pub fn cidr(network: &IpNet) -> core::CidrRange {
    core::CidrRange {
        address_prefix: network.network().to_string(),
        prefix_len: Some(network.prefix_len().into()),
    }
}

/// An address to listen on.
pub fn socket(address: SocketAddr) -> core::Address {
    host_and_port(address.ip().to_string(), address.port())
}

/// Where an endpoint is.
pub fn address(address: &EndpointAddress) -> core::Address {
    match address {
        EndpointAddress::Socket(address) => socket(*address),
        EndpointAddress::Dns(host, port) => host_and_port(host.to_string(), *port),
        EndpointAddress::Pipe(path) => core::Address {
            address: Some(core::address::Address::Pipe(core::Pipe {
                path: path.to_string(),
                mode: 0,
            })),
        },
    }
}

fn host_and_port(address: String, port: u16) -> core::Address {
    let port = core::socket_address::PortSpecifier::PortValue(port.into());
    let socket = core::SocketAddress {
        address,
        port_specifier: Some(port),
        ..core::SocketAddress::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

/// The stream that the resource itself came over.
pub fn ads() -> core::ConfigSource {
    use core::config_source::ConfigSourceSpecifier;
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {})),
        ..core::ConfigSource::default()
    }
}

/// The settings of an extension.
pub fn extension<T: Packed>(name: &str, message: &T) -> core::TypedExtensionConfig {
    core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack(message)) }
}
