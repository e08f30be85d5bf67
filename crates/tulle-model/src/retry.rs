//! When a request may be sent again.
//!
//! What is safe without being asked is small on purpose (`docs/reference/differences.md`): a
//! failure after which no byte of the request can have been processed.

use std::time::Duration;

use crate::matcher::HeaderMatch;

/// The retries of a route (`RetryPolicy`).
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// On which failures.
    pub on: RetryOn,
    /// How many times after the first attempt.
    pub max_retries: u32,
    /// Longest time of one attempt; `None` as long as the route allows.
    pub per_try_timeout: Option<Duration>,
    /// Statuses for [`RetryOn::RETRIABLE_STATUS_CODES`].
    pub retriable_status_codes: Vec<u16>,
    /// Response headers for [`RetryOn::RETRIABLE_HEADERS`].
    pub retriable_headers: Vec<HeaderMatch>,
    /// First pause; grows by doubling, fully jittered.
    pub base_interval: Duration,
    /// Longest pause.
    pub max_interval: Duration,
    /// Prefer an endpoint that was not tried yet.
    pub other_host: bool,
    /// How often the choice of another endpoint is tried.
    pub host_selection_attempts: u32,
}

impl RetryPolicy {
    /// Envoy's default pause, 25 ms.
    pub const BASE_INTERVAL: Duration = Duration::from_millis(25);

    /// A policy with Envoy's defaults.
    #[must_use]
    pub fn new(on: RetryOn, max_retries: u32) -> Self {
        Self {
            on,
            max_retries,
            per_try_timeout: None,
            retriable_status_codes: Vec::new(),
            retriable_headers: Vec::new(),
            base_interval: Self::BASE_INTERVAL,
            max_interval: Self::BASE_INTERVAL * 10,
            other_host: false,
            host_selection_attempts: 1,
        }
    }
}

macro_rules! conditions {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal, $name:literal;)*) => {
        impl RetryOn {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*

            /// Every condition with its name on the wire.
            pub const NAMES: &[(&'static str, Self)] = &[$(($name, Self::$constant),)*];
        }
    };
}

/// The failures after which a request is sent again, as in `x-envoy-retry-on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

conditions! {
    /// Any 5xx answer, or none.
    FIVE_XX = 0, "5xx";
    /// 502, 503, 504.
    GATEWAY_ERROR = 1, "gateway-error";
    /// No answer: disconnect, reset, read timeout.
    RESET = 2, "reset";
    /// As `reset`, but only before the request was sent.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// The connection could not be made.
    CONNECT_FAILURE = 4, "connect-failure";
    /// An answer with `x-envoy-ratelimited`, whatever its status: no other condition covers it.
    ENVOY_RATELIMITED = 5, "envoy-ratelimited";
    /// 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// The stream was refused (`REFUSED_STREAM`).
    REFUSED_STREAM = 7, "refused-stream";
    /// The statuses of the policy.
    RETRIABLE_STATUS_CODES = 8, "retriable-status-codes";
    /// The response headers of the policy.
    RETRIABLE_HEADERS = 9, "retriable-headers";
    /// gRPC `cancelled` in the response headers.
    GRPC_CANCELLED = 10, "cancelled";
    /// gRPC `deadline-exceeded`.
    GRPC_DEADLINE_EXCEEDED = 11, "deadline-exceeded";
    /// gRPC `internal`.
    GRPC_INTERNAL = 12, "internal";
    /// gRPC `resource-exhausted`.
    GRPC_RESOURCE_EXHAUSTED = 13, "resource-exhausted";
    /// gRPC `unavailable`.
    GRPC_UNAVAILABLE = 14, "unavailable";
    /// The upstream reset a HTTP/3 connection attempt; never happens here.
    HTTP3_POST_CONNECT_FAILURE = 15, "http3-post-connect-failure";
    /// A reused idle connection broke before any byte of the answer, for idempotent methods.
    IDLE_CONNECTION_RESET = 16, "tulle-idle-connection-reset";
}

impl RetryOn {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// What is safe without being asked: nothing of the request can have been processed, or the
    /// method is idempotent and an idle connection turned out to be closed.
    pub const SAFE: Self = Self(
        Self::CONNECT_FAILURE.0
            | Self::REFUSED_STREAM.0
            | Self::RESET_BEFORE_REQUEST.0
            | Self::IDLE_CONNECTION_RESET.0,
    );

    /// Whether any of `other` is in here.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These, but none of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Reads a comma-separated list of names.
    ///
    /// # Errors
    /// The name that is not known.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut all = Self::NONE;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let known = Self::NAMES.iter().find(|(known, _)| *known == name);
            all = all.union(known.ok_or_else(|| name.to_owned())?.1);
        }
        Ok(all)
    }
}

impl std::fmt::Display for RetryOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = Self::NAMES.iter().filter(|(_, bit)| self.intersects(*bit));
        for (index, (name, _)) in names.enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_back() {
        let on = RetryOn::parse("5xx, connect-failure,unavailable").expect("known");
        assert_eq!(RetryOn::parse(&on.to_string()), Ok(on));
        assert!(on.intersects(RetryOn::GRPC_UNAVAILABLE) && !on.intersects(RetryOn::RESET));
        assert_eq!(RetryOn::parse("gateway-eror"), Err("gateway-eror".to_owned()));
    }
}
