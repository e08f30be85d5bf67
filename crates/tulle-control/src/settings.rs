//! Settings: what `tulle-control` was told on its command line. The one place where arguments and
//! the environment are read; everything after gets values.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use tulle_runtime::logging;

/// Variables whose names begin so may always be used in configuration.
const VARIABLE_PREFIX: &str = "TULLE_";

/// The command line of `tulle-control`.
#[derive(Debug, Parser)]
#[command(
    name = "tulle-control",
    version,
    about = "The control plane of Tulle",
    after_help = "Example:\n  tulle-control serve --config ./mesh --state /var/lib/tulle"
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve proxies with what the configuration directories say.
    Serve(Box<Serve>),
}

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// Directory of YAML and JSON objects, watched for changes. May be given several times.
    #[arg(long = "config", value_name = "DIR", required = true)]
    pub config: Vec<PathBuf>,
    /// Directory for what must survive a restart.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Where proxies connect without authentication: HOST:PORT on loopback or unix:/PATH.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010")]
    pub xds: Endpoint,
    /// Where proxies connect with mutual TLS. Not available in this release.
    #[arg(long, value_name = "ADDR")]
    pub xds_tls: Option<Endpoint>,
    /// Accept unauthenticated proxies on an address that is not loopback.
    #[arg(long)]
    pub insecure_xds: bool,
    /// Where operators and tools ask.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014")]
    pub admin: SocketAddr,
    /// Trust domain of the mesh; has no effect before there are identities.
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
    /// Suffix of mesh host names: a short name is HOST.NAMESPACE.svc.DOMAIN.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub domain: String,
    /// Namespace whose rules hold for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// Environment variables that configuration may use, besides TULLE_*.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub config_env: Vec<String>,
    /// How much is logged: trace, debug, info, warning, error or off.
    #[arg(short, long, value_name = "LEVEL", default_value = "info")]
    pub log_level: logging::Level,
    /// How a line of the log looks: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: logging::Format,
}

/// Where xDS is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UNIX socket, written `unix:/path`.
    Unix(PathBuf),
}

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not an address at all.
    #[error("{0:?} is not an address; write HOST:PORT with an IP address, or unix:/PATH")]
    Malformed(String),
    /// `unix:` without an absolute path.
    #[error("{0:?} is not an absolute path; write unix:/PATH")]
    RelativePath(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            let absolute = path.is_absolute();
            return absolute
                .then_some(Self::Unix(path))
                .ok_or_else(|| EndpointError::RelativePath(text.to_owned()));
        }
        let literal = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = literal.as_deref().unwrap_or(text);
        address.parse().map(Self::Tcp).map_err(|_| EndpointError::Malformed(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Everything the control plane was told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directories of objects.
    pub config: Vec<PathBuf>,
    /// Where state is kept; `None` keeps it in memory.
    pub state: Option<PathBuf>,
    /// Where xDS is served.
    pub xds: Endpoint,
    /// Whether anybody who reaches [`xds`](Self::xds) from elsewhere is served.
    pub insecure_xds: bool,
    /// Where operators ask.
    pub admin: SocketAddr,
    /// What all proxies share.
    pub mesh: Mesh,
    /// Environment variables that configuration may use.
    pub variables: Variables,
}

/// What all proxies share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Suffix of mesh host names.
    pub domain: String,
    /// Namespace whose rules hold for the whole mesh.
    pub root_namespace: String,
}

/// Environment variables as configuration sees them.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    allowed: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    /// The variables of `environment` that are allowed: those named and those of this product.
    pub fn of(allowed: Vec<String>, environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut variables = Self { allowed, values: BTreeMap::new() };
        let visible = environment.filter(|(name, _)| variables.allows(name)).collect();
        variables.values = visible;
        variables
    }

    /// Whether configuration may use the variable `name`.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        name.starts_with(VARIABLE_PREFIX) || self.allowed.iter().any(|allowed| allowed == name)
    }

    /// The value of `name`, if it is allowed and set.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// Why the control plane does not start with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Anybody could read and register.
    #[error(
        "--xds {0} is reachable from other machines and has no authentication; \
         use loopback or unix:/PATH, or accept the risk with --insecure-xds"
    )]
    NotLoopback(SocketAddr),
    /// Authentication is not built yet.
    #[error("--xds-tls is not available in this release; leave it out and serve xDS on loopback")]
    NoTls,
    /// The admin pages show the configuration of everybody.
    #[error("--admin {0} is reachable from other machines; use a loopback address")]
    AdminNotLoopback(SocketAddr),
}

impl Settings {
    /// Checks what was asked for. The environment is read here and nowhere else.
    ///
    /// # Errors
    /// Something asked for is unsafe or not available.
    pub fn check(serve: Serve) -> Result<Self, SettingsError> {
        if serve.xds_tls.is_some() {
            return Err(SettingsError::NoTls);
        }
        if let Endpoint::Tcp(address) = serve.xds
            && !address.ip().is_loopback()
            && !serve.insecure_xds
        {
            return Err(SettingsError::NotLoopback(address));
        }
        if !serve.admin.ip().is_loopback() && !serve.insecure_xds {
            return Err(SettingsError::AdminNotLoopback(serve.admin));
        }
        if let Some(name) = &serve.trust_domain {
            tracing::warn!(name, "--trust-domain has no effect in this release");
        }
        Ok(Self {
            config: serve.config,
            state: serve.state,
            xds: serve.xds,
            insecure_xds: serve.insecure_xds,
            admin: serve.admin,
            mesh: Mesh { domain: serve.domain, root_namespace: serve.root_namespace },
            variables: Variables::of(serve.config_env, environment()),
        })
    }
}

fn environment() -> impl Iterator<Item = (String, String)> {
    let readable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(readable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings, SettingsError> {
        let line = ["tulle-control", "serve", "--config", "mesh"].iter().chain(arguments);
        let Command::Serve(serve) = CommandLine::try_parse_from(line).expect("arguments").command;
        Settings::check(*serve)
    }

    #[test]
    fn defaults_serve_loopback_only() {
        let settings = settings(&[]).expect("defaults are safe");
        assert_eq!(settings.xds, Endpoint::Tcp(([127, 0, 0, 1], 15010).into()));
        assert_eq!(settings.admin, ([127, 0, 0, 1], 15014).into());
    }

    #[test]
    fn what_is_unsafe_needs_a_word() {
        let refused = |arguments: &[&str]| settings(arguments).expect_err("refused").to_string();
        assert!(refused(&["--xds", "0.0.0.0:15010"]).contains("--insecure-xds"));
        assert!(refused(&["--admin", "10.0.0.1:15014"]).contains("loopback"));
        assert!(refused(&["--xds-tls", "127.0.0.1:15012"]).contains("not available"));
        settings(&["--xds", "0.0.0.0:15010", "--insecure-xds"]).expect("asked for");
        settings(&["--xds", "unix:/run/tulle.sock"]).expect("a socket is as safe as its folder");
    }

    #[test]
    fn endpoints_read_back() {
        for text in ["127.0.0.1:0", "[::1]:15010", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), text);
        }
        let relative = "unix:x.sock".parse::<Endpoint>();
        assert_eq!(relative, Err(EndpointError::RelativePath("unix:x.sock".into())));
        assert!("order:80".parse::<Endpoint>().is_err());
    }

    #[test]
    fn configuration_sees_only_allowed_variables() {
        let environment = [("TULLE_A", "1"), ("ZONE", "b"), ("SECRET", "s")];
        let pairs = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = Variables::of(vec!["ZONE".into()], pairs.into_iter());
        assert_eq!(variables.value("TULLE_A"), Some("1"));
        assert_eq!(variables.value("ZONE"), Some("b"));
        assert_eq!(variables.value("SECRET"), None);
        assert!(!variables.allows("SECRET"));
    }
}
