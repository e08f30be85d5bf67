//! Names of resources: one type per kind, so that a route can never be looked up as a cluster.

use std::fmt;
use std::sync::Arc;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as it stands on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, for those who keep names of every kind in one table.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )*};
}

names! {
    /// Name of a listener (LDS). In the mesh: `<host>:<port>`, `<ip>:<port>` or `virtualInbound`.
    ListenerName;
    /// Name of a route configuration (RDS).
    RouteConfigName;
    /// Name of a cluster (CDS); `outbound|<port>|<subset>|<host>` or `inbound|<port>||`.
    ClusterName;
    /// Name under which the endpoints of a cluster are discovered (EDS `service_name`).
    EndpointsName;
}

impl ClusterName {
    /// The cluster of `host:port`, restricted to `subset` (`""` for all of it).
    #[must_use]
    pub fn outbound(port: u16, subset: &str, host: &str) -> Self {
        Self::from(format!("outbound|{port}|{subset}|{host}"))
    }

    /// The cluster of the application behind this proxy's service port `port`.
    #[must_use]
    pub fn inbound(port: u16) -> Self {
        Self::from(format!("inbound|{port}||"))
    }

    /// The parts of a mesh cluster name, or `None` for a name of another shape.
    #[must_use]
    pub fn parts(&self) -> Option<ClusterParts<'_>> {
        let mut parts = self.0.splitn(4, '|');
        let direction = match parts.next()? {
            "outbound" => Direction::Outbound,
            "inbound" => Direction::Inbound,
            _ => return None,
        };
        let port = parts.next()?.parse().ok()?;
        let subset = parts.next()?;
        let host = parts.next()?;
        Some(ClusterParts { direction, port, subset, host })
    }
}

/// What a mesh cluster name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterParts<'a> {
    /// Which side of the workload the cluster is on.
    pub direction: Direction,
    /// Service port.
    pub port: u16,
    /// Subset of the destination rule, empty for none.
    pub subset: &'a str,
    /// Service host, empty for inbound clusters.
    pub host: &'a str,
}

/// Which way traffic flows, seen from the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Not stated (a plain Envoy configuration).
    #[default]
    Unspecified,
    /// From others to the workload.
    Inbound,
    /// From the workload to others.
    Outbound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mesh_cluster_names_read_back() {
        let name = ClusterName::outbound(9090, "v1", "order.shop");
        assert_eq!(name.as_str(), "outbound|9090|v1|order.shop");
        let parts = name.parts().expect("a mesh name");
        assert_eq!(
            (parts.direction, parts.port, parts.subset, parts.host),
            (Direction::Outbound, 9090, "v1", "order.shop")
        );
        assert_eq!(ClusterName::inbound(80).as_str(), "inbound|80||");
        assert_eq!(ClusterName::from("other").parts(), None);
        assert_eq!(ClusterName::from("outbound|x||h").parts(), None);
    }
}
