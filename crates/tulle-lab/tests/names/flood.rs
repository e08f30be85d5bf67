//! A thousand invented hosts a second: what is asked for, held, counted and allocated has a bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tulle_lab::backend::http1::Backend;
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Memory, Process, binary, memory};
use tulle_xds::session::client::{NEW_NAMES_PER_SECOND, WAITING_TIME_LIMIT};

use crate::mesh::{Mesh, get, log_lines};

/// Hosts that are invented, and in what time.
const INVENTED: u32 = 4_000;
const SPREAD: Duration = Duration::from_secs(4);
/// What a proxy may grow by meanwhile: the connections that wait and the names that were asked for,
/// bytes.
const GROWTH_LIMIT: u64 = 32 * 1024 * 1024;
/// Lines of metrics that are new afterwards: some outcomes of one pair of peers.
const NEW_SERIES: usize = 400;

/// How long a new name that somebody means may take in the middle of a flood.
const NEWCOMER_LIMIT: Duration = Duration::from_secs(1);

/// Answers by status; 0 where there was none.
type Statuses = BTreeMap<u16, u32>;

/// Whom an invented request dials, and the host it names.
type Invent = fn(u32, SocketAddr) -> (SocketAddr, String);

/// One request on a connection of its own for each number, evenly in time.
async fn flood(invent: Invent, address: SocketAddr) -> Statuses {
    let mut asking = JoinSet::new();
    let mut pace = tokio::time::interval(SPREAD / INVENTED);
    for number in 0..INVENTED {
        pace.tick().await;
        asking.spawn(async move {
            let (address, host) = invent(number, address);
            let Ok(client) = Client::connect(address).await else { return 0 };
            let answer = client.patient(SOON * 2).get(&host, "/invented").await;
            answer.map_or(0, |answer| answer.status())
        });
    }
    let mut statuses = Statuses::new();
    while let Some(status) = asking.join_next().await {
        *statuses.entry(status.unwrap()).or_default() += 1;
    }
    statuses
}

/// How many new names may have been asked for since `start`.
fn admitted(start: Instant) -> u64 {
    let burst = 1.0;
    ((start.elapsed().as_secs_f64() + burst) * f64::from(NEW_NAMES_PER_SECOND)) as u64
}

/// Three services that are called, and one with any name below its own.
fn services(port: u16) -> String {
    let one = |name: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: test}}
spec:
  hosts: ['{host}']
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
"
        )
    };
    [
        one("first", "first.test"),
        one("second", "second.test"),
        one("third", "third.test"),
        one("any", "*.any.test"),
    ]
    .join("---\n")
}

/// A control plane and a sidecar that needs no redirection.
struct Explicit {
    control: Process,
    sidecar: Process,
    ports: [PortLease; 4],
    _backend: Backend,
    _directory: tempfile::TempDir,
}

impl Explicit {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backend = Backend::start().await.unwrap();
        let config = directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("services.yaml"), services(backend.address().port())).unwrap();
        let ports: [PortLease; 4] = std::array::from_fn(|_| PortLease::take().unwrap());
        let [xds, admin, outbound, own] = [0, 1, 2, 3].map(|index: usize| ports[index].address());
        let control = format!("serve --config {} --xds {xds} --admin {admin}", config.display());
        let mut control = run("tulle-control", &control, directory.path());
        control.ready(admin, "/ready", SOON).await.unwrap();
        let sidecar = format!(
            "sidecar --control {xds} --workload test/client --explicit --outbound {outbound} \
             --admin {own} --access-log-format json"
        );
        let mut sidecar = run("tulle-proxy", &sidecar, directory.path());
        sidecar.listening(&[outbound.port()], SOON).await.unwrap();
        Self { control, sidecar, ports, _backend: backend, _directory: directory }
    }

    async fn call(&self, host: &str) -> u16 {
        let mut client = Client::connect(self.ports[2].address()).await.unwrap();
        client.get(host, "/known").await.unwrap().status()
    }

    async fn metrics(&self) -> String {
        get(self.ports[3].address(), "/stats/prometheus").await.unwrap()
    }

    async fn asked(&self) -> u64 {
        let path = "/api/v1/proxies/test/client/sent";
        let sent = get(self.ports[1].address(), path).await.unwrap();
        let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
        sent["listener"]["asked"].as_u64().unwrap()
    }

    fn allocated(&self) -> [u64; 2] {
        [&self.sidecar, &self.control]
            .map(|process| memory(process.pid(), Memory::Anonymous).unwrap())
    }
}

fn run(program: &str, arguments: &str, directory: &Path) -> Process {
    let mut command = Command::new(binary(program).unwrap());
    command.args(arguments.split_whitespace());
    Process::spawn(program, command, directory).unwrap()
}

/// Every other one exists.
fn authority(number: u32, outbound: SocketAddr) -> (SocketAddr, String) {
    let family = if number.is_multiple_of(2) { "nobody" } else { "any" };
    (outbound, format!("invented-{number}.{family}.test"))
}

/// The lines of invented requests by status and flags, once there is one of each.
async fn logged(proxy: &Process) -> BTreeMap<(u64, String), u32> {
    let all = until("a line of each request", SOON, || async {
        let mut lines = BTreeMap::new();
        for line in log_lines(proxy, 1).await {
            if line["path"] == "/invented" {
                let flags = line["response_flags"].as_str().unwrap().to_owned();
                *lines.entry((line["response_code"].as_u64().unwrap(), flags)).or_default() += 1;
            }
        }
        (lines.values().sum::<u32>() == INVENTED).then_some(lines)
    });
    all.await.unwrap()
}

#[tokio::test]
async fn invented_authorities_cost_no_more_than_their_limit() {
    let mesh = Explicit::start().await;
    assert_eq!(mesh.call("first.test").await, 200);
    let (asked, series) = (mesh.asked().await, mesh.metrics().await.lines().count());
    let (allocated, start) = (mesh.allocated(), Instant::now());
    let flooding = tokio::spawn(flood(authority, mesh.ports[2].address()));
    let mut newcomers = ["second.test", "third.test"].into_iter();
    while !flooding.is_finished() {
        assert_eq!(mesh.call("first.test").await, 200, "what is known suffers nothing");
        let grown = mesh.asked().await - asked;
        assert!(grown <= admitted(start), "{grown} names after {:?}", start.elapsed());
        if refused(&mesh.metrics().await) > 0
            && let Some(newcomer) = newcomers.next()
        {
            // Nobody named it before, and no crowd is between it and its turn.
            let asking = Instant::now();
            assert_eq!(mesh.call(newcomer).await, 200, "{newcomer}");
            assert!(asking.elapsed() < NEWCOMER_LIMIT, "{newcomer}: {:?}", asking.elapsed());
        }
    }
    assert_eq!(newcomers.next(), None, "nothing was refused in time");
    let statuses = flooding.await.unwrap();
    assert!(start.elapsed() < SPREAD + WAITING_TIME_LIMIT + NEWCOMER_LIMIT, "told at once or soon");
    assert_eq!(refused(&mesh.metrics().await), u64::from(statuses[&503]), "{statuses:?}");
    let told = until("a line in the log", SOON, || async {
        mesh.sidecar.stderr().contains("some are refused").then_some(())
    });
    told.await.unwrap();
    let grown = mesh.asked().await - asked - 2;
    println!("{statuses:?}, {grown} names, {:?}", start.elapsed());
    let (found, absent) = (statuses[&200], statuses[&404]);
    assert!(found > 0 && absent > 0, "{statuses:?}");
    assert_eq!(u64::from(found + absent), grown, "each name was asked for, the rest were not");
    assert_eq!(statuses.values().sum::<u32>(), found + absent + statuses[&503], "{statuses:?}");
    let flags = [(200, "-"), (404, "NR"), (503, "NC")]
        .map(|(status, flags)| ((u64::from(status), flags.to_owned()), statuses[&status]));
    assert_eq!(logged(&mesh.sidecar).await, BTreeMap::from(flags));
    check_cost(&mesh.metrics().await, series, mesh.allocated(), allocated);
}

/// New names that the sidecar has refused to ask for.
fn refused(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("tulle_xds_names_refused_total "));
    line.unwrap().parse().unwrap()
}

/// Nothing that a caller invents becomes a label, and what is allocated is what waits.
fn check_cost(metrics: &str, series: usize, now: [u64; 2], before: [u64; 2]) {
    assert!(!metrics.contains("invented"), "a label was invented");
    let new = metrics.lines().count().saturating_sub(series);
    assert!(new <= NEW_SERIES, "{new} new lines of metrics");
    let growth: Vec<u64> =
        now.iter().zip(before).map(|(now, old)| now.saturating_sub(old)).collect();
    println!("{new} lines, {growth:?} bytes");
    assert!(growth.iter().all(|growth| *growth <= GROWTH_LIMIT), "grew by {growth:?} bytes");
}

/// Hosts for an address that one service owns, one that several share and one that nobody has.
fn host(number: u32, _: SocketAddr) -> (SocketAddr, String) {
    let dialled = HOSTS_AT[number as usize % HOSTS_AT.len()];
    (dialled.parse().unwrap(), format!("invented-{number}.test"))
}

const HOSTS_AT: [&str; 3] = ["172.16.0.1:80", "172.16.0.3:80", "10.0.0.3:80"];

/// Ports that nobody listens on.
fn address(number: u32, _: SocketAddr) -> (SocketAddr, String) {
    (SocketAddr::from(([10, 0, 0, 3], 20_000 + number as u16)), "cart.test".to_owned())
}

/// A flood by the caller of a mesh.
async fn flood_in(mesh: &Mesh, invent: Invent) -> Statuses {
    let anywhere = SocketAddr::from(([0; 4], 0));
    let flooded = mesh.client.enter(move || async move { Ok(flood(invent, anywhere).await) }).await;
    flooded.unwrap_or_else(|error| panic!("{error:#}\n{}", mesh.outputs()))
}

#[tokio::test]
async fn invented_hosts_and_addresses_cost_no_more_than_their_limit() {
    let mesh = Mesh::start().await;
    let (asked, series) = (mesh.asked().await, mesh.metrics().await.lines().count());
    let allocated = mesh.allocated();
    let start = Instant::now();
    let statuses = flood_in(&mesh, host).await;
    println!("{statuses:?}");
    // Where somebody owns the address a name is nothing that is asked for.
    let third = INVENTED / 3;
    assert_eq!(statuses[&404], third, "{statuses:?}");
    assert!(statuses[&200] >= INVENTED - 2 * third, "{statuses:?}");
    let grown = mesh.asked().await - asked;
    assert!(grown <= admitted(start) && grown > HOSTS_AT.len() as u64, "{grown} names");
    check_cost(&mesh.metrics().await, series, mesh.allocated(), allocated);

    let (asked, start) = (mesh.asked().await, Instant::now());
    let (statuses, grown) = tokio::join!(flood_in(&mesh, address), async {
        let mut grown = 0;
        while start.elapsed() < SPREAD {
            grown = mesh.asked().await - asked;
            assert!(grown <= admitted(start), "{grown} names after {:?}", start.elapsed());
        }
        grown
    });
    println!("{statuses:?} {grown}, {:?}", start.elapsed());
    assert!(grown >= u64::from(NEW_NAMES_PER_SECOND), "{grown} names");
    // Nobody listens there: closed where that is known, refused where it could not be asked.
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    assert_eq!(statuses[&0] + statuses[&503], INVENTED, "{statuses:?}");
    check_cost(&mesh.metrics().await, series, mesh.allocated(), allocated);
}
