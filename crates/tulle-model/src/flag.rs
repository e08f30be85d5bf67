//! Response flags: why a request ended as it did, in Envoy's short names.
//!
//! Reference: Envoy "Access logging", `%RESPONSE_FLAGS%`.

use std::fmt;

macro_rules! flags {
    ($($(#[$doc:meta])* $variant:ident = $short:literal, $long:literal;)*) => {
        /// One reason. Several may hold for one request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ResponseFlag { $($(#[$doc])* $variant,)* }

        impl ResponseFlag {
            /// Every flag, in the order in which they are printed.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Envoy's short name, as in the access log.
            #[must_use]
            pub const fn short(self) -> &'static str {
                match self { $(Self::$variant => $short,)* }
            }

            /// Envoy's long name.
            #[must_use]
            pub const fn long(self) -> &'static str {
                match self { $(Self::$variant => $long,)* }
            }
        }
    };
}

flags! {
    /// No healthy upstream host.
    NoHealthyUpstream = "UH", "NoHealthyUpstream";
    /// Upstream connection could not be made.
    UpstreamConnectionFailure = "UF", "UpstreamConnectionFailure";
    /// A limit of the circuit breakers was reached.
    UpstreamOverflow = "UO", "UpstreamOverflow";
    /// No route matched, or no filter chain.
    NoRouteFound = "NR", "NoRouteFound";
    /// The upstream cluster is not there.
    NoClusterFound = "NC", "NoClusterFound";
    /// The retry limit was reached.
    UpstreamRetryLimitExceeded = "URX", "UpstreamRetryLimitExceeded";
    /// The upstream did not answer in time.
    UpstreamRequestTimeout = "UT", "UpstreamRequestTimeout";
    /// The connection was reset by this proxy.
    LocalReset = "LR", "LocalReset";
    /// The upstream reset the stream.
    UpstreamRemoteReset = "UR", "UpstreamRemoteReset";
    /// The upstream closed its connection.
    UpstreamConnectionTermination = "UC", "UpstreamConnectionTermination";
    /// The downstream closed its connection.
    DownstreamConnectionTermination = "DC", "DownstreamConnectionTermination";
    /// The downstream reset its stream.
    DownstreamRemoteReset = "DR", "DownstreamRemoteReset";
    /// A delay was injected.
    DelayInjected = "DI", "DelayInjected";
    /// An abort was injected.
    FaultInjected = "FI", "FaultInjected";
    /// A local rate limit was reached.
    RateLimited = "RL", "RateLimited";
    /// An external or local authorization denied the request.
    UnauthorizedExternalService = "UAEX", "UnauthorizedExternalService";
    /// The downstream request was idle for too long.
    StreamIdleTimeout = "SI", "StreamIdleTimeout";
    /// A strictly checked header was invalid.
    InvalidRequestHeaders = "IH", "InvalidEnvoyRequestHeaders";
    /// The downstream broke its protocol.
    DownstreamProtocolError = "DPE", "DownstreamProtocolError";
    /// The upstream broke its protocol.
    UpstreamProtocolError = "UPE", "UpstreamProtocolError";
    /// The stream lasted longer than allowed.
    DurationTimeout = "DT", "DurationTimeout";
    /// Too many requests were served on the connection, or memory ran short.
    OverloadManager = "OM", "OverloadManagerTerminated";
    /// The endpoints' overload policy dropped it.
    DropOverload = "DO", "DropOverload";
    /// The endpoints' overload policy drops all.
    UnconditionalDropOverload = "UDO", "UnconditionalDropOverload";
}

/// A set of response flags; two bytes of state, no allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u32);

impl ResponseFlags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub fn insert(&mut self, flag: ResponseFlag) {
        self.0 |= 1 << (flag as u8);
    }

    /// Whether `flag` holds.
    #[must_use]
    pub fn contains(self, flag: ResponseFlag) -> bool {
        self.0 & (1 << (flag as u8)) != 0
    }

    /// Whether no flag holds.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flags that hold, in printing order.
    pub fn iter(self) -> impl Iterator<Item = ResponseFlag> {
        ResponseFlag::ALL.iter().copied().filter(move |flag| self.contains(*flag))
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        let mut flags = Self::NONE;
        flags.insert(flag);
        flags
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, flag) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(flag.short())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_envoy_prints_them() {
        let mut flags = ResponseFlags::NONE;
        assert_eq!(flags.to_string(), "-");
        flags.insert(ResponseFlag::UpstreamRetryLimitExceeded);
        flags.insert(ResponseFlag::UpstreamConnectionFailure);
        assert_eq!(flags.to_string(), "UF,URX");
        assert!(!flags.contains(ResponseFlag::NoRouteFound));
    }
}
