//! One cluster at run time: its limits, its endpoints, who is picked, how they are reached.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::time::Instant;
use tulle_identity::Application;
use tulle_model::cluster::{Cluster, Discovery, Limits, PoolSettings};
use tulle_model::route::Priority;

use super::balancing::has_table;
use super::connect::{Life, Security, Transport};
use super::endpoint::{EndpointState, OpenGuard, UpstreamEndpoint};
use super::failure::{ConnectFailure, LimitKind, NoEndpoint, Overflow};
use super::http1::{self, Http1Lease};
use super::http2::{self, Http2Lease};
use super::limits::{self, RequestPermit, RetryPermit, UnderWay};
use super::members::{Members, PickInput};
use super::outlier::{ClusterOutliers, Consequence, Outcome, Population};
use super::tcp::{self, TcpLease};
use super::{Clock, Prepared};
use crate::io::Io;
use crate::metrics::WorkerMetrics;
use crate::metrics::envoy::ClusterMetrics;
use crate::metrics::istio::handles::Handles;
use crate::shared::Block;

/// A cluster as configured at one moment. What is known of it at run time is shared with those
/// before and after it.
#[derive(Debug)]
pub struct UpstreamCluster {
    /// What is configured.
    pub config: Arc<Cluster>,
    pub(super) state: Rc<ClusterState>,
}

/// A request was dropped by the overload policy of the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// As a share of all is.
    Some,
    /// As all are.
    All,
}

/// The protocol that a request is to be sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

/// A connection, or a place on one, for one request.
#[derive(Debug)]
pub enum HttpLease {
    /// A whole HTTP/1 connection.
    H1(Http1Lease),
    /// A stream of an HTTP/2 connection.
    H2(Http2Lease),
}

impl HttpLease {
    /// Our end of the connection.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::H1(lease) => lease.io.local(),
            Self::H2(lease) => lease.local(),
        }
    }
}

impl UpstreamCluster {
    /// Counts a request from its admission to its end.
    ///
    /// # Errors
    /// The limit on requests is reached.
    pub fn admit(&self, priority: Priority) -> Result<RequestPermit, Overflow> {
        self.state.under_way(priority).admit(limits_of(&self.state.config.borrow(), priority))
    }

    /// Counts a retry while it is under way.
    ///
    /// # Errors
    /// The limit on retries is reached or their budget used up.
    pub fn retry_permit(&self, priority: Priority) -> Result<RetryPermit, Overflow> {
        self.state.under_way(priority).retry(limits_of(&self.state.config.borrow(), priority))
    }

    /// The name of the limit on retries that is in force.
    #[must_use]
    pub fn retry_limit(&self, priority: Priority) -> &'static str {
        match limits_of(&self.state.config.borrow(), priority).retry_budget {
            Some(_) => "retry_budget",
            None => LimitKind::Retries.name(),
        }
    }

    /// Whether the overload policy of the endpoints drops a request; `random` gives any number.
    /// Connections of a TCP proxy are not dropped: Envoy's does not ask either.
    #[must_use]
    pub fn drops(&self, random: impl FnMut() -> u64) -> Option<Dropped> {
        let dropped = self.state.members.drops(random)?;
        self.state.metrics.series.rq_drop_overload().inc();
        Some(dropped)
    }

    /// Whether the endpoint of a request depends on its hash.
    #[must_use]
    pub fn hashes(&self) -> bool {
        has_table(&self.config)
    }

    /// The endpoint for a request or connection.
    ///
    /// # Errors
    /// Why there is none.
    pub fn pick(&self, input: &PickInput<'_>) -> Result<Rc<UpstreamEndpoint>, NoEndpoint> {
        self.state.members.pick(&self.state, input)
    }

    /// A connection to `endpoint` for one request: a kept one that is fit at `now`, or a new one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn acquire_http(
        &self,
        endpoint: &UpstreamEndpoint,
        version: HttpVersion,
        priority: Priority,
        now: Instant,
    ) -> Result<HttpLease, ConnectFailure> {
        let dial = self.dial(endpoint, priority);
        match version {
            HttpVersion::H1 => http1::acquire(&dial, now).await.map(HttpLease::H1),
            HttpVersion::H2 => http2::acquire(&dial, now).await.map(HttpLease::H2),
        }
    }

    /// A connection to `endpoint` for opaque bytes.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect_tcp(
        &self,
        endpoint: &UpstreamEndpoint,
    ) -> Result<TcpLease, ConnectFailure> {
        tcp::connect(&self.dial(endpoint, Priority::Default)).await
    }

    /// What is counted of it.
    #[must_use]
    pub fn metrics(&self) -> &Rc<ClusterMetrics> {
        &self.state.metrics
    }

    /// What is counted where no endpoint of it was chosen.
    #[must_use]
    pub fn handles(&self) -> &Handles {
        &self.state.handles
    }

    /// The name that it is counted and logged by: `alt_stat_name` if there is one.
    #[must_use]
    pub fn stat_name(&self) -> &str {
        stat_name(&self.config)
    }

    /// Takes note of how an attempt at `endpoint` ended, for outlier detection.
    pub fn report(&self, endpoint: &UpstreamEndpoint, outcome: Outcome) {
        if self.state.config.borrow().outlier.is_none() {
            return;
        }
        let config = self.state.config();
        if let Some(policy) = config.outlier.as_ref() {
            let now = self.state.clock.now();
            let population = self.state.population(policy);
            match endpoint.state.outlier.report(outcome, now, &population) {
                Consequence::None => {}
                Consequence::Spared => self.state.metrics.series.ejections_overflow().inc(),
                Consequence::Ejected => self.state.metrics.series.ejections_total().inc(),
            }
        }
    }

    /// Every endpoint, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Rc<UpstreamEndpoint>> {
        self.state.members.all()
    }

    /// What is under way in one priority, over all workers.
    #[must_use]
    pub fn under_way(&self, priority: Priority) -> &UnderWay {
        self.state.under_way(priority)
    }

    fn dial(&self, endpoint: &UpstreamEndpoint, priority: Priority) -> Dial {
        Dial { cluster: Rc::clone(&self.state), endpoint: Rc::clone(&endpoint.state), priority }
    }
}

/// What is known of a cluster as long as it is configured.
#[derive(Debug)]
pub(super) struct ClusterState {
    /// Itself, for work that goes on elsewhere.
    pub(super) this: Weak<Self>,
    config: RefCell<Arc<Cluster>>,
    transport: RefCell<Rc<Transport>>,
    under_way: [UnderWay; 2],
    pub(super) outliers: ClusterOutliers,
    pub(super) members: Members,
    pub(super) clock: Clock,
    metrics: Rc<ClusterMetrics>,
    handles: Handles,
}

impl ClusterState {
    /// How many numbers of a block it takes.
    pub(super) const NUMBERS: usize = 2 * limits::NUMBERS + ClusterOutliers::NUMBERS;

    pub(super) fn new(
        config: &Arc<Cluster>,
        prepared: &Prepared,
        clock: Clock,
        metrics: &WorkerMetrics,
    ) -> Rc<Self> {
        let (block, [normal, high]) = match prepared.numbers(&config.name) {
            Some(numbers) => (Block::All(numbers.block()), numbers.released()),
            None => (Block::own(Self::NUMBERS), Default::default()),
        };
        let transport = transport_of(config, prepared);
        Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            config: RefCell::new(Arc::clone(config)),
            transport: RefCell::new(Rc::new(transport)),
            under_way: [
                UnderWay::new(&block, 0, clock, normal),
                UnderWay::new(&block, limits::NUMBERS, clock, high),
            ],
            outliers: ClusterOutliers::new(&block, 2 * limits::NUMBERS),
            members: Members::default(),
            clock,
            metrics: metrics.cluster(stat_name(config)),
            handles: Handles::default(),
        })
    }

    /// Takes on a changed configuration. Connections made otherwise are used up, not cut.
    pub(super) fn configure(&self, config: &Arc<Cluster>, prepared: &Prepared) {
        let next = transport_of(config, prepared);
        let same_transport = self.transport.borrow().is_same(&next);
        let same_config = Arc::ptr_eq(&self.config.borrow(), config);
        if same_transport && same_config {
            return;
        }
        if !same_transport {
            *self.transport.borrow_mut() = Rc::new(next);
        }
        if !same_config {
            *self.config.borrow_mut() = Arc::clone(config);
            self.members.rebalance();
            self.under_way.iter().for_each(UnderWay::tell_all);
        }
        self.sweep(Instant::now());
    }

    pub(super) fn config(&self) -> Arc<Cluster> {
        Arc::clone(&self.config.borrow())
    }

    /// Whether what is configured now, the transport and the pool, allows something. Nothing of it
    /// is copied or counted, because it is asked for each request.
    pub(super) fn serves(
        &self,
        allows: impl FnOnce((&Rc<Transport>, &PoolSettings)) -> bool,
    ) -> bool {
        allows((&self.transport.borrow(), &self.config.borrow().pool))
    }

    /// Whether endpoints are found by dialling.
    pub(super) fn is_original_dst(&self) -> bool {
        matches!(self.config.borrow().discovery, Discovery::OriginalDst)
    }

    pub(super) fn metrics(&self) -> &ClusterMetrics {
        &self.metrics
    }

    pub(super) fn transport(&self) -> Rc<Transport> {
        Rc::clone(&self.transport.borrow())
    }

    fn under_way(&self, priority: Priority) -> &UnderWay {
        match priority {
            Priority::Default => &self.under_way[0],
            Priority::High => &self.under_way[1],
        }
    }

    fn population<'a>(
        &'a self,
        policy: &'a tulle_model::cluster::OutlierDetection,
    ) -> Population<'a> {
        Population { policy, outliers: &self.outliers, endpoints: self.members.len() }
    }

    /// Closes what was kept too long, ends ejections whose time is over.
    pub(super) fn sweep(&self, now: Instant) {
        let config = self.config();
        let due =
            config.outlier.as_ref().filter(|policy| self.outliers.is_due(policy, self.clock.now()));
        for endpoint in self.members.states() {
            endpoint.http1.sweep(self, now);
            endpoint.http2.sweep(self, now);
            if let Some(policy) = due {
                endpoint.outlier.check(self.clock.now(), &self.population(policy));
            } else if config.outlier.is_none() {
                endpoint.outlier.release(&self.outliers);
            }
        }
        if matches!(config.discovery, Discovery::OriginalDst) {
            self.members.forget_unused(now, &self.outliers);
        }
    }

    /// The cluster is no longer configured: nothing is kept, what is under way goes on.
    pub(super) fn leave(&self) {
        self.members.leave(&self.outliers);
    }
}

/// `alt_stat_name` if there is one, as Envoy has it.
fn stat_name(config: &Cluster) -> &str {
    match &*config.alt_stat_name {
        "" => config.name.as_str(),
        alternative => alternative,
    }
}

fn limits_of(config: &Cluster, priority: Priority) -> &Limits {
    match priority {
        Priority::Default => &config.limits.default,
        Priority::High => &config.limits.high,
    }
}

fn transport_of(config: &Cluster, prepared: &Prepared) -> Transport {
    let security = match &config.tls {
        None => Security::Plain,
        Some(tls) => match prepared.tls.client(tls) {
            Some(built) => Security::Tls(Arc::clone(built)),
            None => Security::Broken,
        },
    };
    let keepalive = config.pool.tcp_keepalive;
    Transport { security, keepalive, sources: config.sources.clone() }
}

/// The wish for a connection to one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) cluster: Rc<ClusterState>,
    pub(super) endpoint: Rc<EndpointState>,
    pub(super) priority: Priority,
}

impl Dial {
    pub(super) fn under_way(&self) -> &UnderWay {
        self.cluster.under_way(self.priority)
    }

    pub(super) fn limits(&self) -> Limits {
        *limits_of(&self.cluster.config.borrow(), self.priority)
    }

    /// A place for one more connection. Where there is none, one that another endpoint keeps
    /// unused is closed for it.
    pub(super) fn place(&self) -> Option<Life> {
        let permit = loop {
            match self.under_way().connect(&self.limits()) {
                Ok(permit) => break permit,
                Err(_) if self.cluster.members.close_one_unused(self.priority) => {}
                Err(_) => {
                    self.cluster.metrics.series.cx_overflow().inc();
                    return None;
                }
            }
        };
        Some(Life {
            opened: Instant::now(),
            priority: self.priority,
            transport: self.cluster.transport(),
            _permit: permit,
            _open: OpenGuard::new(&self.endpoint),
            _counted: self.cluster.metrics.connection(),
        })
    }

    pub(super) async fn connect(
        &self,
        transport: &Transport,
        application: Application,
    ) -> Result<Io, ConnectFailure> {
        let limit = self.cluster.config.borrow().connect_timeout;
        let began = Instant::now();
        let connected = transport.connect(&self.endpoint.target, application, limit).await;
        self.cluster.metrics.connecting_ends(began, &connected);
        connected
    }
}
