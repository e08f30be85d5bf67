//! Outlier detection.

use tulle_model::cluster::OutlierDetection;

use super::value::positive_duration;
use crate::fields;
use crate::fields::At;
use crate::proto::envoy::config::cluster::v3 as pb;

/// When endpoints are left out.
pub fn detection(message: pb::OutlierDetection, at: &At<'_>) -> OutlierDetection {
    fields!(at, message => pb::OutlierDetection ["envoy.config.cluster.v3.OutlierDetection"] {
        used: consecutive_5xx, interval, base_ejection_time, max_ejection_percent,
            enforcing_consecutive_5xx, consecutive_gateway_failure,
            enforcing_consecutive_gateway_failure, split_external_local_origin_errors,
            consecutive_local_origin_failure, enforcing_consecutive_local_origin_failure,
            max_ejection_time, always_eject_one_host;
        warned: enforcing_success_rate "rates of success are not compared" unless Some(0),
            success_rate_minimum_hosts "rates of success are not compared",
            success_rate_request_volume "rates of success are not compared",
            success_rate_stdev_factor "rates of success are not compared",
            enforcing_local_origin_success_rate "rates of success are not compared",
            failure_percentage_threshold "rates of failure are not compared",
            enforcing_failure_percentage "rates of failure are not compared",
            enforcing_failure_percentage_local_origin "rates of failure are not compared",
            failure_percentage_minimum_hosts "rates of failure are not compared",
            failure_percentage_request_volume "rates of failure are not compared",
            max_ejection_time_jitter "times are exact",
            successful_active_health_check_uneject_host "endpoints are not checked actively",
            monitors "detection is not extended",
            detect_degraded_hosts "only the configuration calls an endpoint degraded";
    });
    let default = OutlierDetection::default();
    let enforced = |count: u32, percent: Option<u32>, default: u32, name: &str| match percent
        .unwrap_or(default)
    {
        0 => 0,
        100 => count,
        percent => {
            at.field(name).warn(format!("{percent} has no effect: it is enforced always"));
            count
        }
    };
    // Envoy counts gateway failures but enforces nothing unless it is told to.
    let gateway_failures = consecutive_gateway_failure.unwrap_or(default.consecutive_5xx);
    let base =
        positive_duration(base_ejection_time, default.base_ejection_time, at, "base_ejection_time");
    let longest =
        positive_duration(max_ejection_time, default.max_ejection_time, at, "max_ejection_time");
    if max_ejection_time.is_some() && longest < base {
        at.field("max_ejection_time").error("is less than `base_ejection_time`");
    }
    let percent = max_ejection_percent.unwrap_or(default.max_ejection_percent);
    if percent > 100 {
        at.field("max_ejection_percent").error("is more than 100");
    }
    OutlierDetection {
        consecutive_5xx: enforced(
            consecutive_5xx.unwrap_or(default.consecutive_5xx),
            enforcing_consecutive_5xx,
            100,
            "enforcing_consecutive_5xx",
        ),
        consecutive_gateway_failure: enforced(
            gateway_failures,
            enforcing_consecutive_gateway_failure,
            0,
            "enforcing_consecutive_gateway_failure",
        ),
        consecutive_local_origin_failure: enforced(
            consecutive_local_origin_failure.unwrap_or(default.consecutive_local_origin_failure),
            enforcing_consecutive_local_origin_failure,
            100,
            "enforcing_consecutive_local_origin_failure",
        ),
        split_external_local_origin_errors,
        interval: positive_duration(interval, default.interval, at, "interval"),
        base_ejection_time: base,
        max_ejection_time: longest.max(base),
        max_ejection_percent: percent,
        always_eject_one: always_eject_one_host.unwrap_or(default.always_eject_one),
    }
}
