//! Single values: durations, ports, percentages, enumerations, names, addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tulle_model::address::EndpointAddress;
use tulle_model::head::HeaderName;
use tulle_model::matcher::Fraction;

use super::unknown;
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::core::v3 as core;
use crate::proto::envoy::r#type::v3 as kinds;
use crate::proto::{Any, Packed, unpack};

/// Longest time that is told apart from never: a hundred years.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The items of the repeated field `name`, without those that were refused.
pub fn each<M, T>(
    at: &At<'_>,
    name: &str,
    items: Vec<M>,
    decode: impl Fn(M, &At<'_>) -> Option<T>,
) -> Vec<T> {
    // Collected in place, values would keep the room of messages, which are much larger.
    let mut values = Vec::with_capacity(items.len());
    let decoded = items
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| decode(item, &at.item(name, index)));
    values.extend(decoded);
    values
}

/// The message in `any`.
pub fn typed<T: Packed>(any: &Any, at: &At<'_>) -> Option<T> {
    match unpack(any) {
        Ok(message) => {
            unknown::report(&message, &any.value, at);
            Some(message)
        }
        Err(error) => at.fail(error.to_string()),
    }
}

/// Refuses a packed message of a type that has no meaning where it stands.
pub fn unknown_type<T>(any: &Any, at: &At<'_>) -> Option<T> {
    at.fail(format!("`{}` is not supported here", any.type_url))
}

/// A duration that is not negative.
pub fn duration(message: prost_types::Duration, at: &At<'_>) -> Option<Duration> {
    match Duration::try_from(message) {
        Ok(duration) if duration <= MAX_DURATION => Some(duration),
        Ok(_) => at.fail("longer than a hundred years"),
        Err(_) => at.fail("negative or malformed"),
    }
}

/// The optional duration in the field `name`.
pub fn optional_duration(
    message: Option<prost_types::Duration>,
    at: &At<'_>,
    name: &str,
) -> Option<Duration> {
    message.and_then(|message| duration(message, &at.field(name)))
}

/// A time limit: `default` when it is not set, never when it is zero.
pub fn limit(
    message: Option<prost_types::Duration>,
    default: Option<Duration>,
    at: &At<'_>,
    name: &str,
) -> Option<Duration> {
    match message {
        None => default,
        Some(message) => duration(message, &at.field(name)).filter(|duration| !duration.is_zero()),
    }
}

/// A duration that has to be longer than zero.
pub fn positive_duration(
    message: Option<prost_types::Duration>,
    default: Duration,
    at: &At<'_>,
    name: &str,
) -> Duration {
    let decoded = optional_duration(message, at, name);
    if decoded == Some(Duration::ZERO) {
        at.field(name).error("has to be longer than zero");
    }
    decoded.unwrap_or(default)
}

/// A value of the enumeration `E`.
pub fn enumeration<E: TryFrom<i32>>(number: i32, at: &At<'_>, name: &str) -> Option<E> {
    match E::try_from(number) {
        Ok(value) => Some(value),
        Err(_) => at.field(name).fail(format!("{number} is not a value of this field")),
    }
}

/// A port number.
pub fn port(number: u32, at: &At<'_>) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) => Some(port),
        Err(_) => at.fail(format!("{number} is not a port")),
    }
}

/// A number that is at least one.
pub fn non_zero(number: u32, at: &At<'_>) -> Option<std::num::NonZeroU32> {
    let number = std::num::NonZeroU32::new(number);
    number.or_else(|| at.fail("has to be at least 1"))
}

/// A text that is shared.
pub fn shared(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Arc::from).collect()
}

/// The name of a header or pseudo header.
pub fn header_name(name: &str, at: &At<'_>) -> Option<HeaderName> {
    HeaderName::parse(name).or_else(|| at.fail(format!("`{name}` is not the name of a header")))
}

/// A percentage as a number of parts in ten thousand.
pub fn basis_points(percent: kinds::Percent, at: &At<'_>) -> Option<u32> {
    fields!(at, percent => kinds::Percent ["envoy.type.v3.Percent"] { used: value; });
    if (0.0..=100.0).contains(&value) {
        // At most 10,000 after the check.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        return Some((value * 100.0).round() as u32);
    }
    at.field("value").fail(format!("{value} is not between 0 and 100"))
}

/// A chance.
pub fn fraction(message: kinds::FractionalPercent, at: &At<'_>) -> Option<Fraction> {
    use kinds::fractional_percent::DenominatorType;
    fields!(at, message => kinds::FractionalPercent ["envoy.type.v3.FractionalPercent"] {
        used: numerator, denominator;
    });
    let denominator = match enumeration(denominator, at, "denominator")? {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Some(Fraction { numerator, denominator })
}

/// A chance that Envoy lets its runtime change.
pub fn runtime_fraction(message: core::RuntimeFractionalPercent, at: &At<'_>) -> Option<Fraction> {
    fields!(at, message => core::RuntimeFractionalPercent
        ["envoy.config.core.v3.RuntimeFractionalPercent"] {
        used: default_value;
        warned: runtime_key "there is no runtime that could change the value";
    });
    match default_value {
        Some(value) => fraction(value, &at.field("default_value")),
        None => at.field("default_value").fail("is missing"),
    }
}

/// An address range; bits of the address beyond its length are cleared, as Envoy does.
pub fn cidr(message: core::CidrRange, at: &At<'_>) -> Option<IpNet> {
    fields!(at, message => core::CidrRange ["envoy.config.core.v3.CidrRange"] {
        used: address_prefix, prefix_len;
    });
    let Ok(address) = address_prefix.parse::<IpAddr>() else {
        let text = format!("`{address_prefix}` is not an IP address");
        return at.field("address_prefix").fail(text);
    };
    let length = prefix_len.unwrap_or(0);
    let network = u8::try_from(length).ok().and_then(|length| IpNet::new(address, length).ok());
    match network {
        Some(network) => Some(network.trunc()),
        None => at.field("prefix_len").fail(format!("{length} is too long for {address}")),
    }
}

/// Where something is: an IP address, a name to resolve, or a UNIX socket.
pub fn address(message: core::Address, at: &At<'_>) -> Option<EndpointAddress> {
    use core::address::Address as Kind;
    fields!(at, message => core::Address ["envoy.config.core.v3.Address"] {
        used: address;
        variants: envoy_internal_address "there are no internal listeners";
    });
    match address {
        Some(Kind::SocketAddress(socket)) => socket_address(socket, &at.field("socket_address")),
        Some(Kind::Pipe(message)) => {
            let at = at.field("pipe");
            fields!(at, message => core::Pipe ["envoy.config.core.v3.Pipe"] {
                used: path;
                warned: mode "the permissions are those of the umask";
            });
            if path.is_empty() {
                return at.field("path").fail("is missing");
            }
            Some(EndpointAddress::Pipe(path.into()))
        }
        Some(Kind::EnvoyInternalAddress(_)) => {
            at.refuse::<core::Address>("envoy_internal_address");
            None
        }
        None => at.fail("an address is missing"),
    }
}

/// An IP address or a name to resolve, and a port.
pub fn socket_address(message: core::SocketAddress, at: &At<'_>) -> Option<EndpointAddress> {
    use core::socket_address::{PortSpecifier, Protocol};
    fields!(at, message => core::SocketAddress ["envoy.config.core.v3.SocketAddress"] {
        used: protocol, address, port_specifier;
        variants: named_port "ports are numbers";
        refused: resolver_name "names are resolved by the system's resolver",
            network_namespace_filepath "sockets are made in the proxy's own network namespace",
            ipv4_compat "name an IPv4 and an IPv6 address";
    });
    if enumeration::<Protocol>(protocol, at, "protocol")? == Protocol::Udp {
        return at.field("protocol").fail("UDP is not supported");
    }
    let port = match port_specifier {
        Some(PortSpecifier::PortValue(number)) => port(number, &at.field("port_value"))?,
        Some(PortSpecifier::NamedPort(_)) => {
            at.refuse::<core::SocketAddress>("named_port");
            return None;
        }
        None => return at.field("port_value").fail("is missing"),
    };
    if address.is_empty() {
        return at.field("address").fail("is missing");
    }
    Some(match address.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, port)),
        Err(_) => EndpointAddress::Dns(address.into(), port),
    })
}

/// A source of configuration, of which only the stream that it came over is supported.
pub fn config_source(message: Option<core::ConfigSource>, at: &At<'_>) -> Option<()> {
    use core::config_source::ConfigSourceSpecifier as Kind;
    let Some(message) = message else {
        return at.fail("is missing");
    };
    fields!(at, message => core::ConfigSource ["envoy.config.core.v3.ConfigSource"] {
        used: config_source_specifier, resource_api_version;
        variants: path "use `ads`", path_config_source "use `ads`", api_config_source "use `ads`";
        refused: authorities "`ads` is the only source";
        warned: initial_fetch_timeout "only those of `lds_config` and `cds_config` count";
    });
    api_version(resource_api_version, at, "resource_api_version");
    match config_source_specifier {
        Some(Kind::Ads(message)) => {
            fields!(at, message => core::AggregatedConfigSource
                ["envoy.config.core.v3.AggregatedConfigSource"] {});
            return Some(());
        }
        Some(Kind::Self_(message)) => {
            let at = at.field("self");
            fields!(at, message => core::SelfConfigSource
                ["envoy.config.core.v3.SelfConfigSource"] { used: transport_api_version; });
            api_version(transport_api_version, &at, "transport_api_version");
            return Some(());
        }
        Some(Kind::Path(_)) => at.refuse::<core::ConfigSource>("path"),
        Some(Kind::PathConfigSource(_)) => at.refuse::<core::ConfigSource>("path_config_source"),
        Some(Kind::ApiConfigSource(_)) => at.refuse::<core::ConfigSource>("api_config_source"),
        None => at.field("ads").error("is missing"),
    }
    None
}

/// Refuses versions of the API that no longer exist. Unset is accepted, as in a newer Envoy.
pub fn api_version(number: i32, at: &At<'_>, name: &str) {
    use core::ApiVersion;
    if enumeration::<ApiVersion>(number, at, name) == Some(ApiVersion::V2) {
        at.field(name).error("has to be V3");
    }
}
