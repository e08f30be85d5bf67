//! The flags themselves: read by clap, checked against each other here, turned into
//! [`Settings`](super::Settings).

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use tulle_model::head::CanonicalAuthority;
use tulle_runtime::drain::Strategy;
use tulle_runtime::logging;
use tulle_xds::session::client::UNUSED_LIMIT;

use super::network::InboundPortText;
use super::workload::parse_name;
use super::{
    AccessLogFormat, BootstrapSource, ControlAddress, EnvoySettings, GatewaySettings, Labels,
    MAX_WORKERS, MeshSettings, Mode, Outbound, ProcessSettings, ServicePort, ServiceRegistration,
    Settings, SidecarSettings, UsageError, WorkloadName,
};
use crate::store::REPEAT_USE;

/// Where redirected or explicit outbound traffic is taken.
const OUTBOUND_PORT: u16 = 15001;
/// Where redirected inbound traffic is taken.
const INBOUND_PORT: u16 = 15006;
/// Where the admin server listens.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// Names in use are said to be once a minute ([`REPEAT_USE`]); this leaves room for a late one.
const LEAST_FORGET_AFTER_S: u64 = REPEAT_USE.as_secs() * 3 / 2;

const EXAMPLES: &str = "Examples:
  tulle-proxy -c envoy.yaml
  tulle-proxy -c envoy.yaml --mode validate
  tulle-proxy sidecar --control 127.0.0.1:15010 --workload shop/order-1 --labels app=order \\
      --service order --port http:9090
  tulle-proxy gateway --control unix:/run/tulle/xds.sock --workload edge/gateway-1 \\
      --labels istio=ingressgateway";

/// The data plane of the Tulle service mesh.
#[derive(Debug, Parser)]
#[command(name = "tulle-proxy", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    envoy: EnvoyArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run beside one workload and take over its traffic.
    #[command(after_help = "Example:
  tulle-proxy sidecar --control 127.0.0.1:15010 --workload shop/order-1 --labels app=order \\
      --service order --port http:9090 --explicit --inbound-port 19090:9090")]
    Sidecar(Box<SidecarArgs>),
    /// Run at an edge of the mesh.
    #[command(after_help = "Example:
  tulle-proxy gateway --control 127.0.0.1:15010 --workload edge/gateway-1 \\
      --labels istio=ingressgateway")]
    Gateway(Box<GatewayArgs>),
}

#[derive(Debug, Args)]
struct EnvoyArgs {
    /// Envoy bootstrap, YAML or JSON.
    #[arg(short = 'c', long, value_name = "FILE")]
    config_path: Option<PathBuf>,
    /// Envoy bootstrap in place; merged over the file if both are given.
    #[arg(long, value_name = "YAML")]
    config_yaml: Option<String>,
    /// Serve, or check the bootstrap and exit with 0 or 1.
    #[arg(long, value_enum, default_value = "serve")]
    mode: ModeName,
    /// Overrides node.id.
    #[arg(long, value_name = "ID")]
    service_node: Option<String>,
    /// Overrides node.cluster.
    #[arg(long, value_name = "NAME")]
    service_cluster: Option<String>,
    /// Overrides node.locality.zone.
    #[arg(long, value_name = "ZONE")]
    service_zone: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, Args)]
struct ProcessArgs {
    /// Worker threads. Default: a sidecar 1, else one for each core.
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// trace, debug, info, warning, error, critical or off.
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    log_level: logging::Level,
    /// Lines of the log on stderr: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: logging::Format,
    /// Lines of the access log where the configuration does not say: text (Envoy's) or json.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    access_log_format: AccessLogFormatName,
    /// Longest time that draining may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    drain_time_s: u64,
    /// While draining, tell connections to go away at once or one after the other.
    #[arg(long, value_enum, default_value = "gradual")]
    drain_strategy: DrainStrategyName,
    /// Refuse dynamic resources with fields that are not known, instead of warning.
    #[arg(long)]
    reject_unknown_dynamic_fields: bool,
    /// Has no effect yet.
    #[arg(long, value_name = "N")]
    base_id: Option<u32>,
    /// Has no effect yet.
    #[arg(long, value_name = "SECONDS")]
    parent_shutdown_time_s: Option<u64>,
    /// There is no hot restart; accepted so that Envoy's command lines work.
    #[arg(long, hide = true)]
    disable_hot_restart: bool,
    /// What the admin server may do beyond looking: shutdown (POST /quitquitquit).
    #[arg(long, value_enum, value_name = "WHAT")]
    admin_allow: Vec<AdminAllow>,
    /// Write the admin server's real address to this file.
    #[arg(long, value_name = "FILE")]
    admin_address_path: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct MeshArgs {
    /// Where the control plane is: HOST:PORT or unix:/path.
    #[arg(long, value_name = "ADDR")]
    control: ControlAddress,
    /// Which workload this is: NAMESPACE/NAME.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    workload: WorkloadName,
    /// Its service account.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = parse_name)]
    service_account: String,
    /// Where other workloads reach it. Default: the address the control plane is dialled from.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Its DNS domain. Default: NAMESPACE.svc.cluster.local.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    dns_domain: Option<String>,
    /// The mesh's name for the place it runs in.
    #[arg(long, value_name = "NAME", default_value = "Kubernetes", value_parser = parse_name)]
    cluster_id: String,
    /// Keep last-good configuration here; one process at a time.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Forget a destination that nobody used for so long, in seconds; at least 90.
    #[arg(long, value_name = "SECONDS", default_value_t = UNUSED_LIMIT.as_secs(),
          value_parser = RangedU64ValueParser::<u64>::new().range(LEAST_FORGET_AFTER_S..))]
    forget_after_s: u64,
    /// Where the admin server listens.
    #[arg(long, value_name = "ADDR", default_value_t = ADMIN)]
    admin: SocketAddr,
    /// Serve /stats/prometheus here too.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct SidecarArgs {
    #[command(flatten)]
    mesh: MeshArgs,
    /// Labels of the workload: k=v,k2=v2.
    #[arg(long, value_name = "LABELS", default_value = "")]
    labels: Labels,
    /// Register this host name for the workload; needs --port.
    #[arg(long, value_name = "HOST", requires = "ports")]
    service: Option<String>,
    /// A port of the service: NAME:NUMBER or NAME:NUMBER:APPPORT. Repeatable.
    #[arg(long = "port", id = "ports", value_name = "PORT", requires = "service")]
    ports: Vec<ServicePort>,
    /// Take outbound traffic by authority or as an HTTP proxy; needs no redirection and no root.
    #[arg(long)]
    explicit: bool,
    /// Where outbound traffic is taken. Default: port 15001 of loopback. Repeatable.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    outbound: Vec<SocketAddr>,
    /// Where redirected inbound traffic is taken. Default: port 15006 of all addresses, unless
    /// --explicit or --inbound-port is given. Repeatable.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    inbound: Vec<SocketAddr>,
    /// Listen on LISTEN on behalf of the application's port APP. Repeatable.
    #[arg(long = "inbound-port", id = "inbound_ports", value_name = "LISTEN:APP")]
    inbound_ports: Vec<InboundPortText>,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, Args)]
struct GatewayArgs {
    #[command(flatten)]
    mesh: MeshArgs,
    /// Labels by which Gateway objects select it: k=v,k2=v2.
    #[arg(long, value_name = "LABELS")]
    labels: Labels,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeName {
    Serve,
    Validate,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccessLogFormatName {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DrainStrategyName {
    Gradual,
    Immediate,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum AdminAllow {
    Shutdown,
}

/// Reads a command line into settings.
pub(super) fn parse<I, T>(command_line: I) -> Result<Settings, UsageError>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let words: Vec<OsString> = command_line.into_iter().map(Into::into).collect();
    let shown = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let matches = CommandLine::command().try_get_matches_from(words)?;
    let line = CommandLine::from_arg_matches(&matches)?;
    let settings = match line.command {
        None => envoy(line.envoy, shown),
        Some(Command::Sidecar(args)) => sidecar(*args, shown),
        Some(Command::Gateway(args)) => gateway(*args, shown),
    };
    settings.map_err(|message| CommandLine::command().error(ErrorKind::ValueValidation, message))
}

fn envoy(args: EnvoyArgs, shown: Vec<String>) -> Result<Settings, String> {
    let bootstrap = BootstrapSource { path: args.config_path, yaml: args.config_yaml };
    if bootstrap.path.is_none() && bootstrap.yaml.is_none() {
        return Err("give a configuration: -c FILE or --config-yaml YAML; or say what to be: \
                    sidecar or gateway"
            .to_owned());
    }
    Ok(Settings::Envoy(EnvoySettings {
        process: process(args.process, cores(), shown)?,
        bootstrap,
        mode: match args.mode {
            ModeName::Serve => Mode::Serve,
            ModeName::Validate => Mode::Validate,
        },
        service_node: args.service_node,
        service_cluster: args.service_cluster,
        service_zone: args.service_zone,
    }))
}

fn sidecar(args: SidecarArgs, shown: Vec<String>) -> Result<Settings, String> {
    let service = args.service.map(|host| registration(&host, args.ports)).transpose()?;
    let outbound = outbound(args.outbound, args.explicit)?;
    let unredirected = args.explicit || !args.inbound_ports.is_empty();
    let inbound = match args.inbound {
        given if !given.is_empty() => given,
        _ if unredirected => Vec::new(),
        _ => vec![
            (Ipv4Addr::UNSPECIFIED, INBOUND_PORT).into(),
            (Ipv6Addr::UNSPECIFIED, INBOUND_PORT).into(),
        ],
    };
    let inbound_ports: Vec<_> =
        args.inbound_ports.iter().map(|port| port.at(args.mesh.address)).collect();
    for (index, port) in inbound_ports.iter().enumerate() {
        let same = |other: &super::InboundPort| other.listen == port.listen;
        if port.listen.port() != 0 && inbound_ports[..index].iter().any(same) {
            return Err(format!("--inbound-port: {} is given twice", port.listen));
        }
    }
    Ok(Settings::Sidecar(SidecarSettings {
        process: process(args.process, NonZeroUsize::MIN, shown)?,
        mesh: mesh(args.mesh, args.labels),
        service,
        outbound,
        inbound,
        inbound_ports,
    }))
}

fn gateway(args: GatewayArgs, shown: Vec<String>) -> Result<Settings, String> {
    if args.labels.0.is_empty() {
        return Err("--labels: a gateway needs at least one, or no Gateway can select it".into());
    }
    Ok(Settings::Gateway(GatewaySettings {
        process: process(args.process, cores(), shown)?,
        mesh: mesh(args.mesh, args.labels),
    }))
}

/// One worker for each core this process may run on.
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn process(
    args: ProcessArgs,
    workers: NonZeroUsize,
    command_line: Vec<String>,
) -> Result<ProcessSettings, String> {
    // Zero means one, as for Envoy.
    let concurrency = args.concurrency.map_or(workers, |n| n.try_into().unwrap_or(workers));
    let concurrency = if args.concurrency == Some(0) { NonZeroUsize::MIN } else { concurrency };
    if concurrency.get() > MAX_WORKERS {
        return Err(format!("--concurrency: at most {MAX_WORKERS}"));
    }
    Ok(ProcessSettings {
        concurrency,
        log_level: args.log_level,
        log_format: args.log_format,
        access_log_format: match args.access_log_format {
            AccessLogFormatName::Text => AccessLogFormat::Text,
            AccessLogFormatName::Json => AccessLogFormat::Json,
        },
        drain_time: Duration::from_secs(args.drain_time_s),
        drain_strategy: match args.drain_strategy {
            DrainStrategyName::Gradual => Strategy::Gradual,
            DrainStrategyName::Immediate => Strategy::Immediate,
        },
        reject_unknown_dynamic_fields: args.reject_unknown_dynamic_fields,
        base_id: args.base_id,
        parent_shutdown_time: args.parent_shutdown_time_s.map(Duration::from_secs),
        admin_may_shut_down: args.admin_allow.contains(&AdminAllow::Shutdown),
        admin_address_path: args.admin_address_path,
        command_line,
    })
}

fn mesh(args: MeshArgs, labels: Labels) -> MeshSettings {
    let domain = format!("{}.svc.cluster.local", args.workload.namespace);
    MeshSettings {
        control: args.control,
        workload: args.workload,
        labels,
        service_account: args.service_account,
        address: args.address,
        domain: args.dns_domain.unwrap_or(domain),
        cluster_id: args.cluster_id,
        state: args.state,
        forget_after: Duration::from_secs(args.forget_after_s),
        admin: args.admin,
        metrics: args.metrics,
    }
}

fn registration(host: &str, ports: Vec<ServicePort>) -> Result<ServiceRegistration, String> {
    let authority = CanonicalAuthority::parse(host.as_bytes())
        .map_err(|error| format!("--service: {host:?} is not a host name: {error}"))?;
    if authority.port.is_some() || authority.address.is_some() {
        return Err(format!("--service: {host:?} is not a host name; ports are given by --port"));
    }
    for (index, port) in ports.iter().enumerate() {
        let clash = |other: &&ServicePort| other.number == port.number || other.name == port.name;
        if let Some(other) = ports[..index].iter().find(clash) {
            return Err(format!(
                "--port: {}:{} and {}:{} share their name or number",
                other.name, other.number, port.name, port.number
            ));
        }
    }
    Ok(ServiceRegistration { host: authority.host.into_owned(), ports })
}

/// Outbound traffic is only ever taken from this machine's own processes in explicit mode, because
/// what comes there is believed.
fn outbound(given: Vec<SocketAddr>, explicit: bool) -> Result<Outbound, String> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, OUTBOUND_PORT));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, OUTBOUND_PORT));
    match (explicit, given.is_empty()) {
        (true, true) => Ok(Outbound::Explicit(vec![v4])),
        (false, true) => Ok(Outbound::Transparent(vec![v4, v6])),
        (false, false) => Ok(Outbound::Transparent(given)),
        (true, false) => match given.iter().find(|address| !address.ip().is_loopback()) {
            Some(open) => Err(format!("--outbound: {open} is not loopback, as --explicit needs")),
            None => Ok(Outbound::Explicit(given)),
        },
    }
}
