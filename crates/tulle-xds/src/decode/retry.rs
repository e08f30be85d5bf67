//! Retries.

use tulle_model::retry::{RetryOn, RetryPolicy};

use super::matcher;
use super::protocol::backoff;
use super::value::{each, limit, typed, unknown_type};
use crate::fields;
use crate::fields::At;
use crate::proto::Packed;
use crate::proto::envoy::config::route::v3 as pb;
use crate::proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;

/// One retry policy.
pub fn policy(message: pb::RetryPolicy, at: &At<'_>) -> Option<RetryPolicy> {
    fields!(at, message => pb::RetryPolicy ["envoy.config.route.v3.RetryPolicy"] {
        used: retry_on, num_retries, per_try_timeout, retry_host_predicate,
            host_selection_retry_max_attempts, retriable_status_codes, retry_back_off,
            retriable_headers;
        refused: retriable_request_headers "every request of the route may be retried";
        warned: per_try_idle_timeout "`per_try_timeout` counts",
            retry_priority "priorities are as the endpoints say",
            retry_options_predicates "retries are not extended",
            rate_limited_retry_back_off "the pause is that of `retry_back_off`",
            refresh_cluster_on_retry "a retry goes to the cluster of the first attempt";
    });
    let mut policy = RetryPolicy::new(conditions(&retry_on, at), num_retries.unwrap_or(1));
    policy.per_try_timeout = limit(per_try_timeout, None, at, "per_try_timeout");
    policy.retriable_status_codes =
        each(at, "retriable_status_codes", retriable_status_codes, status);
    policy.retriable_headers = each(at, "retriable_headers", retriable_headers, matcher::header);
    if let Some(message) = retry_back_off {
        let at = at.field("retry_back_off");
        fields!(at, message => pb::retry_policy::RetryBackOff
            ["envoy.config.route.v3.RetryPolicy.RetryBackOff"] {
            used: base_interval, max_interval;
        });
        (policy.base_interval, policy.max_interval) = backoff(base_interval, max_interval, &at)?;
    }
    policy.other_host =
        !each(at, "retry_host_predicate", retry_host_predicate, other_host).is_empty();
    policy.host_selection_attempts = match host_selection_retry_max_attempts {
        0 => 1,
        attempts => match u32::try_from(attempts) {
            Ok(attempts) => attempts,
            Err(_) => {
                return at
                    .field("host_selection_retry_max_attempts")
                    .fail(format!("{attempts} is no number of attempts"));
            }
        },
    };
    Some(policy)
}

/// The conditions that are known; of the others Envoy takes no notice.
fn conditions(list: &str, at: &At<'_>) -> RetryOn {
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.fold(RetryOn::NONE, |all, name| match RetryOn::parse(name) {
        Ok(condition) => all.union(condition),
        Err(name) => {
            at.field("retry_on").warn(format!("`{name}` is no condition and has no effect"));
            all
        }
    })
}

fn status(number: u32, at: &At<'_>) -> Option<u16> {
    let status = u16::try_from(number).ok().filter(|status| (100..600).contains(status));
    status.or_else(|| at.fail(format!("{number} is not a status")))
}

fn other_host(message: pb::retry_policy::RetryHostPredicate, at: &At<'_>) -> Option<()> {
    use pb::retry_policy::retry_host_predicate::ConfigType;
    fields!(at, message => pb::retry_policy::RetryHostPredicate
        ["envoy.config.route.v3.RetryPolicy.RetryHostPredicate"] {
        label: name;
        used: config_type;
    });
    let at = at.field("typed_config");
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        return at.fail("is missing");
    };
    if any.type_url != PreviousHostsPredicate::TYPE_URL {
        return unknown_type(&any, &at);
    }
    fields!(at, typed(&any, &at)? => PreviousHostsPredicate
        ["envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"] {});
    Some(())
}
