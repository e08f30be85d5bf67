//! HTTP filters, and what routes change about them.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use tulle_model::http::{
    BufferSettings, FaultAbort, FaultDelay, FaultRate, FaultSettings, FilterKind, FilterOverride,
    HttpFilter, OverrideSetting, RouterSettings,
};
use tulle_model::matcher::Fraction;

use super::matcher;
use super::value::{duration, each, fraction, typed, unknown_type};
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::route::v3::FilterConfig;
use crate::proto::envoy::extensions::filters::common::fault::v3 as common_fault;
use crate::proto::envoy::extensions::filters::http::buffer::v3 as buffer;
use crate::proto::envoy::extensions::filters::http::fault::v3 as fault;
use crate::proto::envoy::extensions::filters::http::router::v3::Router;
use crate::proto::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use crate::proto::{Any, Packed};

/// Envoy's chance where a fault has none: never.
const NEVER: Fraction = Fraction { numerator: 0, denominator: 100 };

/// The filters of a connection manager; the router has to be the last and only the last.
pub fn chain(filters: Vec<manager::HttpFilter>, at: &At<'_>) -> Vec<HttpFilter> {
    let last = filters.len().checked_sub(1);
    let mut chain = Vec::with_capacity(filters.len());
    for (index, message) in filters.into_iter().enumerate() {
        let at = at.item("http_filters", index);
        let Some(filter) = filter(message, &at) else { continue };
        let is_router = matches!(filter.kind, FilterKind::Router(_));
        if is_router && Some(index) != last {
            at.error("the router has to be the last filter");
        } else if !is_router && Some(index) == last {
            at.error("the last filter has to be the router");
        } else if is_router && filter.disabled {
            at.field("disabled").error("the router cannot be switched off");
        }
        chain.push(filter);
    }
    if last.is_none() {
        at.field("http_filters").error("the router is missing");
    }
    chain
}

fn filter(message: manager::HttpFilter, at: &At<'_>) -> Option<HttpFilter> {
    use manager::http_filter::ConfigType;
    fields!(at, message => manager::HttpFilter
        ["envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"] {
        used: name, is_optional, disabled, config_type;
        variants: config_discovery "filters are not discovered";
    });
    let any = match config_type {
        Some(ConfigType::TypedConfig(any)) => any,
        Some(ConfigType::ConfigDiscovery(_)) => {
            at.refuse::<manager::HttpFilter>("config_discovery");
            return None;
        }
        None => return at.field("typed_config").fail("is missing"),
    };
    if name.is_empty() {
        return at.field("name").fail("is missing");
    }
    let at = at.field("typed_config");
    let kind = match any.type_url.as_str() {
        Router::TYPE_URL => FilterKind::Router(router(typed(&any, &at)?, &at)),
        fault::HttpFault::TYPE_URL => FilterKind::Fault(faults(&any, &at)?),
        buffer::Buffer::TYPE_URL => FilterKind::Buffer(buffer_settings(typed(&any, &at)?, &at)?),
        _ if is_optional => {
            at.warn(format!("`{}` is not supported and left out", any.type_url));
            return None;
        }
        _ => return unknown_type(&any, &at),
    };
    Some(HttpFilter { name: name.into(), kind, disabled })
}

fn router(message: Router, at: &At<'_>) -> RouterSettings {
    fields!(at, message => Router ["envoy.extensions.filters.http.router.v3.Router"] {
        used: suppress_envoy_headers;
        refused: upstream_http_filters "filters run once for a request";
        warned: dynamic_stats "counters are always kept", start_child_span "there are no spans yet",
            upstream_log "attempts are not logged by themselves",
            upstream_log_options "attempts are not logged by themselves",
            strict_check_headers "headers that cannot be read are ignored",
            respect_expected_rq_timeout "the route's timeout counts",
            suppress_grpc_request_failure_code_stats "counters are always kept",
            reject_connect_request_early_data "CONNECT is answered before it is used";
    });
    RouterSettings { suppress_envoy_headers }
}

fn buffer_settings(message: buffer::Buffer, at: &At<'_>) -> Option<BufferSettings> {
    fields!(at, message => buffer::Buffer ["envoy.extensions.filters.http.buffer.v3.Buffer"] {
        used: max_request_bytes;
    });
    match max_request_bytes.and_then(NonZeroU32::new) {
        Some(max_request_bytes) => Some(BufferSettings { max_request_bytes }),
        None => at.field("max_request_bytes").fail("has to be greater than zero"),
    }
}

fn buffer_override(message: buffer::BufferPerRoute, at: &At<'_>) -> Option<OverrideSetting> {
    use buffer::buffer_per_route::Override;
    fields!(at, message => buffer::BufferPerRoute
        ["envoy.extensions.filters.http.buffer.v3.BufferPerRoute"] {
        used: r#override;
    });
    match r#override {
        Some(Override::Disabled(true)) => Some(OverrideSetting::Disabled),
        Some(Override::Disabled(false)) => at.field("disabled").fail("has to be true"),
        Some(Override::Buffer(message)) => {
            buffer_settings(message, &at.field("buffer")).map(OverrideSetting::Buffer)
        }
        None => at.field("buffer").fail("is missing"),
    }
}

fn faults(any: &Any, at: &At<'_>) -> Option<Arc<FaultSettings>> {
    typed(any, at).map(|message| Arc::new(fault_settings(message, at)))
}

fn fault_settings(message: fault::HttpFault, at: &At<'_>) -> FaultSettings {
    fields!(at, message => fault::HttpFault ["envoy.extensions.filters.http.fault.v3.HTTPFault"] {
        used: delay, abort, upstream_cluster, headers, response_rate_limit;
        refused: downstream_nodes "callers are told apart by their headers",
            max_active_faults "faults under way are not counted";
        warned: delay_percent_runtime "there is no runtime",
            abort_percent_runtime "there is no runtime",
            delay_duration_runtime "there is no runtime",
            abort_http_status_runtime "there is no runtime",
            max_active_faults_runtime "there is no runtime",
            response_rate_limit_percent_runtime "there is no runtime",
            abort_grpc_status_runtime "there is no runtime",
            disable_downstream_cluster_stats "there are none", filter_metadata "nothing reads it";
    });
    FaultSettings {
        delay: delay.and_then(|message| fault_delay(message, &at.field("delay"))),
        abort: abort.and_then(|message| fault_abort(message, &at.field("abort"))),
        response_rate: response_rate_limit
            .and_then(|message| fault_rate(message, &at.field("response_rate_limit"))),
        headers: each(at, "headers", headers, matcher::header),
        upstream_cluster: upstream_cluster.into(),
    }
}

fn fault_delay(message: common_fault::FaultDelay, at: &At<'_>) -> Option<(FaultDelay, Fraction)> {
    use common_fault::fault_delay::FaultDelaySecifier as Kind;
    fields!(at, message => common_fault::FaultDelay
        ["envoy.extensions.filters.common.fault.v3.FaultDelay"] {
        used: percentage, fault_delay_secifier;
    });
    let pause = match fault_delay_secifier {
        Some(Kind::FixedDelay(message)) => duration(message, &at.field("fixed_delay"))?,
        Some(Kind::HeaderDelay(message)) => {
            let header = at.field("header_delay");
            fields!(header, message => common_fault::fault_delay::HeaderDelay
                ["envoy.extensions.filters.common.fault.v3.FaultDelay.HeaderDelay"] {});
            return Some((FaultDelay::Header, chance(percentage, at)?));
        }
        None => return at.field("fixed_delay").fail("is missing"),
    };
    if pause.is_zero() {
        return at.field("fixed_delay").fail("has to be longer than zero");
    }
    Some((FaultDelay::Fixed(pause), chance(percentage, at)?))
}

fn fault_abort(message: fault::FaultAbort, at: &At<'_>) -> Option<(FaultAbort, Fraction)> {
    use fault::fault_abort::ErrorType;
    fields!(at, message => fault::FaultAbort
        ["envoy.extensions.filters.http.fault.v3.FaultAbort"] {
        used: percentage, error_type;
        warned: response_body "the body says that it was a fault";
    });
    let abort = match error_type {
        Some(ErrorType::HttpStatus(status @ 200..=599)) => {
            // At most 599 by the pattern.
            #[allow(clippy::cast_possible_truncation, reason = "in range")]
            FaultAbort::Http(status as u16)
        }
        Some(ErrorType::HttpStatus(_)) => {
            return at.field("http_status").fail("has to be between 200 and 599");
        }
        Some(ErrorType::GrpcStatus(status)) => FaultAbort::Grpc(status),
        Some(ErrorType::HeaderAbort(message)) => {
            let at = at.field("header_abort");
            fields!(at, message => fault::fault_abort::HeaderAbort
                ["envoy.extensions.filters.http.fault.v3.FaultAbort.HeaderAbort"] {});
            FaultAbort::Header
        }
        None => return at.field("http_status").fail("is missing"),
    };
    Some((abort, chance(percentage, at)?))
}

fn fault_rate(message: common_fault::FaultRateLimit, at: &At<'_>) -> Option<(FaultRate, Fraction)> {
    use common_fault::fault_rate_limit::{FixedLimit, HeaderLimit, LimitType};
    fields!(at, message => common_fault::FaultRateLimit
        ["envoy.extensions.filters.common.fault.v3.FaultRateLimit"] {
        used: percentage, limit_type;
    });
    let rate = match limit_type {
        Some(LimitType::FixedLimit(message)) => {
            let at = at.field("fixed_limit");
            fields!(at, message => FixedLimit
                ["envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit"] {
                used: limit_kbps;
            });
            match NonZeroU64::new(limit_kbps) {
                Some(rate) => FaultRate::Fixed(rate),
                None => return at.field("limit_kbps").fail("has to be greater than zero"),
            }
        }
        Some(LimitType::HeaderLimit(message)) => {
            let at = at.field("header_limit");
            fields!(at, message => HeaderLimit
                ["envoy.extensions.filters.common.fault.v3.FaultRateLimit.HeaderLimit"] {});
            FaultRate::Header
        }
        None => return at.field("fixed_limit").fail("is missing"),
    };
    Some((rate, chance(percentage, at)?))
}

fn chance(
    percentage: Option<crate::proto::envoy::r#type::v3::FractionalPercent>,
    at: &At<'_>,
) -> Option<Fraction> {
    match percentage {
        Some(message) => fraction(message, &at.field("percentage")),
        None => Some(NEVER),
    }
}

/// What a virtual host, route or weighted cluster changes about filters, by their names.
pub fn overrides(configs: BTreeMap<String, Any>, at: &At<'_>) -> Vec<FilterOverride> {
    let setting = |(name, any): (String, Any)| {
        let at = at.entry("typed_per_filter_config", &name);
        let setting = match any.type_url.as_str() {
            FilterConfig::TYPE_URL => filter_config(typed(&any, &at)?, &at),
            _ => override_setting(&any, false, &at),
        };
        setting.map(|setting| FilterOverride { filter: name.as_str().into(), setting })
    };
    configs.into_iter().filter_map(setting).collect()
}

fn filter_config(message: FilterConfig, at: &At<'_>) -> Option<OverrideSetting> {
    fields!(at, message => FilterConfig ["envoy.config.route.v3.FilterConfig"] {
        used: config, is_optional, disabled;
    });
    match config {
        _ if disabled => Some(OverrideSetting::Disabled),
        Some(any) => override_setting(&any, is_optional, &at.field("config")),
        None => at.field("config").fail("is missing"),
    }
}

fn override_setting(any: &Any, is_optional: bool, at: &At<'_>) -> Option<OverrideSetting> {
    match any.type_url.as_str() {
        fault::HttpFault::TYPE_URL => faults(any, at).map(OverrideSetting::Fault),
        buffer::BufferPerRoute::TYPE_URL => buffer_override(typed(any, at)?, at),
        _ if is_optional => {
            at.warn(format!("`{}` is not supported and left out", any.type_url));
            None
        }
        _ => unknown_type(any, at),
    }
}
