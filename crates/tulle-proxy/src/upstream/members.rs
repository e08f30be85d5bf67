//! The endpoints of a cluster as they are now, and the picking among them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{Cluster, DnsFamily, Endpoint, Endpoints, Locality, LocalityEndpoints};
use tulle_model::decide::balance::{Balancer, Pick};
use tulle_model::route::Priority;

use super::Prepared;
use super::balancing::{Seat, balancer, has_table, slots};
use super::cluster::{ClusterState, Dropped};
use super::dialled::{Dialled, Full};
use super::dns::Names;
use super::endpoint::{EndpointState, Target, UpstreamEndpoint};
use super::failure::NoEndpoint;
use super::outlier::ClusterOutliers;
use crate::metrics::istio::handles::Handles;
use crate::shared::Block;

/// How often to choose anew where an ejected endpoint was chosen.
const OTHER_CHOICES: u32 = 3;

/// What the choice of an endpoint depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickInput<'a> {
    /// The hash of what the route says, if it says anything.
    pub hash: Option<u64>,
    /// Endpoints that were tried before and should be avoided.
    pub tried: &'a [Rc<UpstreamEndpoint>],
    /// How often to choose anew when a tried one was chosen.
    pub other_choices: u32,
    /// Where the client dialled.
    pub original_dst: Option<SocketAddr>,
    /// Any number.
    pub random: u64,
}

/// The endpoints of one cluster.
#[derive(Debug, Default)]
pub(super) struct Members {
    list: RefCell<Rc<[Rc<UpstreamEndpoint>]>>,
    states: RefCell<HashMap<Target, Rc<EndpointState>>>,
    source: RefCell<Option<Source>>,
    balancer: RefCell<Option<Built>>,
    /// A new balancer is being made elsewhere.
    rebuilding: Cell<bool>,
    /// Original destinations.
    dialled: RefCell<Dialled>,
}

/// What the list was made of.
#[derive(Clone, Debug)]
struct Source {
    endpoints: Arc<Endpoints>,
    prepared: Prepared,
}

/// What a new balancer is made of.
struct Rebuild {
    config: Arc<Cluster>,
    source: Source,
    seats: Vec<Seat>,
    changes: u64,
}

#[derive(Debug)]
struct Built {
    /// As of how many changes of health.
    changes: u64,
    balancer: Balancer,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.list.borrow().len() + self.dialled.borrow().len()
    }

    pub(super) fn all(&self) -> Vec<Rc<UpstreamEndpoint>> {
        let mut all = self.list.borrow().to_vec();
        all.extend(self.dialled.borrow().iter().cloned());
        all
    }

    pub(super) fn states(&self) -> Vec<Rc<EndpointState>> {
        self.states.borrow().values().cloned().collect()
    }

    /// Picks anew from now on, because what picking depends on has changed.
    pub(super) fn rebalance(&self) {
        *self.balancer.borrow_mut() = None;
    }

    /// Takes on `endpoints`; those whose address stays keep their connections and counts, those
    /// that leave keep nothing.
    pub(super) fn update(
        &self,
        endpoints: Option<&Arc<Endpoints>>,
        prepared: &Prepared,
        cluster: &ClusterState,
    ) {
        let Some(endpoints) = endpoints else { return };
        let same = self.source.borrow().as_ref().is_some_and(|source| {
            Arc::ptr_eq(&source.endpoints, endpoints) && source.prepared.has_same_names(prepared)
        });
        let source = Source { endpoints: Arc::clone(endpoints), prepared: prepared.clone() };
        if same {
            *self.source.borrow_mut() = Some(source);
            return;
        }
        let list = self.members_of(endpoints, prepared, cluster);
        // It may have been a cluster of original destinations.
        self.dialled.borrow_mut().clear();
        self.forget_others(&list, &cluster.outliers);
        *self.list.borrow_mut() = list.into();
        *self.source.borrow_mut() = Some(source);
        self.rebalance();
    }

    /// A member for each address, the first time that it stands in the list; as it was before if
    /// nothing of it changed.
    fn members_of(
        &self,
        endpoints: &Endpoints,
        prepared: &Prepared,
        cluster: &ClusterState,
    ) -> Vec<Rc<UpstreamEndpoint>> {
        let before = self.list.borrow().clone();
        let mut before: HashMap<_, _> = before.iter().map(|one| (&one.target, one)).collect();
        let place = |group: &LocalityEndpoints| Arc::new(group.locality.clone());
        let localities: Vec<_> = endpoints.localities.iter().map(place).collect();
        let slots = slots(&cluster.config(), endpoints, &prepared.names);
        let members = slots.into_iter().map(|slot| {
            let fresh = UpstreamEndpoint {
                config: slot.endpoint.clone(),
                locality: Arc::clone(&localities[slot.place]),
                place: slot.place,
                priority: slot.priority,
                handles: Handles::default(),
                state: self.state(&slot.target, prepared, cluster),
                target: slot.target,
            };
            match before.remove(&fresh.target).filter(|old| old.is_unchanged(&fresh)) {
                Some(old) => Rc::clone(old),
                None => Rc::new(fresh),
            }
        });
        members.collect()
    }

    fn state(
        &self,
        target: &Target,
        prepared: &Prepared,
        cluster: &ClusterState,
    ) -> Rc<EndpointState> {
        let mut states = self.states.borrow_mut();
        let fresh = || {
            let numbers = prepared.numbers(&cluster.config().name);
            let shared = numbers.and_then(|numbers| numbers.endpoint(target));
            let block = match shared {
                Some(shared) => Block::All(shared),
                None => Block::own(EndpointState::NUMBERS),
            };
            Rc::new(EndpointState::new(target.clone(), &block))
        };
        Rc::clone(states.entry(target.clone()).or_insert_with(fresh))
    }

    fn forget_others(&self, list: &[Rc<UpstreamEndpoint>], outliers: &ClusterOutliers) {
        let stays: HashSet<_> = list.iter().map(|one| &one.target).collect();
        let left: Vec<_> =
            self.states.borrow_mut().extract_if(|target, _| !stays.contains(target)).collect();
        for (_, state) in left {
            leave(&state, outliers);
        }
    }

    /// Keeps nothing.
    pub(super) fn leave(&self, outliers: &ClusterOutliers) {
        self.dialled.borrow_mut().clear();
        *self.list.borrow_mut() = Rc::new([]);
        self.forget_others(&[], outliers);
        self.rebalance();
    }

    /// Closes a connection that some endpoint keeps unused and that is counted under the limit of
    /// `priority`; whether there was one.
    pub(super) fn close_one_unused(&self, priority: Priority) -> bool {
        let closes = |state: &Rc<EndpointState>| {
            state.http1.close_oldest(priority) || state.http2.close_oldest(priority)
        };
        self.states().iter().any(closes)
    }

    /// Forgets original destinations that nobody dialled for a while and nobody is connected to.
    pub(super) fn forget_unused(&self, now: Instant, outliers: &ClusterOutliers) {
        let mut dialled = self.dialled.borrow_mut();
        dialled.forget_unused(now);
        let is_forgotten =
            |target: &Target| target.socket().is_none_or(|address| !dialled.contains(address));
        let left: Vec<_> =
            self.states.borrow_mut().extract_if(|target, _| is_forgotten(target)).collect();
        drop(dialled);
        for (_, state) in left {
            leave(&state, outliers);
        }
    }

    /// Whether one of the categories of the overload policy drops a request.
    pub(super) fn drops(&self, mut random: impl FnMut() -> u64) -> Option<Dropped> {
        let source = self.source.borrow();
        let categories = &source.as_ref()?.endpoints.drop;
        let part = |random: u64| random % u64::from(Endpoints::DROP_PARTS);
        let hit = categories.iter().find(|(_, share)| part(random()) < (*share).into())?;
        Some(if hit.1 >= Endpoints::DROP_PARTS { Dropped::All } else { Dropped::Some })
    }

    /// The endpoint for `input`.
    pub(super) fn pick(
        &self,
        cluster: &ClusterState,
        input: &PickInput<'_>,
    ) -> Result<Rc<UpstreamEndpoint>, NoEndpoint> {
        if cluster.is_original_dst() {
            return self.original(cluster, input.original_dst);
        }
        let list = self.list.borrow().clone();
        if list.is_empty() {
            return Err(match self.is_known() {
                true => NoEndpoint::Empty,
                false => NoEndpoint::NotKnown,
            });
        }
        let is_old = self.balancer(cluster, input.random).ok_or(NoEndpoint::Empty)?;
        let mut built = self.balancer.borrow_mut();
        let Some(Built { balancer, .. }) = built.as_mut() else {
            return Err(NoEndpoint::Empty);
        };
        let active = |index: usize| list[index].active_requests();
        let mut pick = Pick { hash: input.hash, random: input.random, choice: 0 };
        loop {
            let index = balancer.pick(pick, active).ok_or(NoEndpoint::Unhealthy)?;
            let picked = &list[index];
            // The balancer of before may still know an endpoint that was ejected since.
            let is_gone = is_old && picked.is_ejected();
            let was_tried = is_gone || input.tried.iter().any(|tried| tried.is_same(picked));
            let other_choices = if is_gone { OTHER_CHOICES } else { input.other_choices };
            if !was_tried || other_choices == 0 {
                return Ok(Rc::clone(picked));
            }
            if pick.choice >= other_choices {
                return Ok(Rc::clone(untried(&list, index, input.tried).unwrap_or(picked)));
            }
            pick.choice += 1;
            pick.random = pick.random.rotate_left(17).wrapping_add(1);
        }
    }

    /// Whether every name of the cluster has been resolved, if perhaps to nothing.
    fn is_known(&self) -> bool {
        let source = self.source.borrow();
        source.as_ref().is_some_and(|source| {
            source.endpoints.iter().all(|endpoint| match &endpoint.address {
                EndpointAddress::Dns(name, _) => source.prepared.names.contains_key(name),
                EndpointAddress::Socket(_) | EndpointAddress::Pipe(_) => true,
            })
        })
    }

    /// The balancer for the health of now; `true` if it is one of before.
    fn balancer(&self, cluster: &ClusterState, seed: u64) -> Option<bool> {
        let changes = cluster.outliers.changes();
        let is_current = |built: &Built| built.changes == changes;
        if self.balancer.borrow().as_ref().is_some_and(is_current) {
            return Some(false);
        }
        let (config, list) = (cluster.config(), self.list.borrow().clone());
        let source = self.source.borrow().clone()?;
        let nobody_is_ejected = !list.iter().any(|one| one.is_ejected());
        let beforehand = source.prepared.balancer(&config.name).filter(|made| {
            nobody_is_ejected && made.is_of(&config, &source.endpoints, &source.prepared.names)
        });
        if let Some(made) = beforehand {
            let balancer = made.balancer.clone();
            *self.balancer.borrow_mut() = Some(Built { changes, balancer });
            return Some(false);
        }
        let seats: Vec<_> =
            list.iter().map(|one| Seat::new(&one.slot(), one.is_ejected())).collect();
        if has_table(&config) && self.balancer.borrow().is_some() {
            self.rebuild(cluster, Rebuild { config, source, seats, changes });
            return Some(true);
        }
        let balancer = balancer(&config, &source.endpoints, &seats, seed);
        *self.balancer.borrow_mut() = Some(Built { changes, balancer });
        Some(false)
    }

    /// Whether a new balancer is being made elsewhere.
    #[cfg(test)]
    pub(super) fn is_rebuilding(&self) -> bool {
        self.rebuilding.get()
    }

    /// Has a thread of its own make the balancer, one at a time.
    fn rebuild(&self, cluster: &ClusterState, rebuild: Rebuild) {
        if self.rebuilding.replace(true) {
            return;
        }
        let Some(state) = cluster.this.upgrade() else { return };
        let Rebuild { config, source, seats, changes } = rebuild;
        let list = self.list.borrow().clone();
        #[expect(clippy::disallowed_methods, reason = "arithmetic, one at a time for each cluster")]
        let making =
            tokio::task::spawn_blocking(move || balancer(&config, &source.endpoints, &seats, 0));
        tokio::task::spawn_local(async move {
            let made = making.await;
            let members = &state.members;
            members.rebuilding.set(false);
            let is_same = Rc::ptr_eq(&members.list.borrow(), &list);
            if let (Ok(balancer), true) = (made, is_same && members.balancer.borrow().is_some()) {
                *members.balancer.borrow_mut() = Some(Built { changes, balancer });
            }
        });
    }

    fn original(
        &self,
        cluster: &ClusterState,
        address: Option<SocketAddr>,
    ) -> Result<Rc<UpstreamEndpoint>, NoEndpoint> {
        let address = address.ok_or(NoEndpoint::NoOriginalDestination)?;
        let now = Instant::now();
        if let Some(endpoint) = self.dialled.borrow().find(address, now) {
            return Ok(endpoint);
        }
        let room = self.dialled.borrow_mut().make_room();
        if let Some(displaced) = room.map_err(|Full| NoEndpoint::TooManyDestinations)? {
            self.states.borrow_mut().remove(&displaced.target);
            leave(&displaced.state, &cluster.outliers);
        }
        let target = Target::Socket(address);
        let state = self.state(&target, &Prepared::default(), cluster);
        let endpoint = Rc::new(UpstreamEndpoint {
            target,
            config: Endpoint::new(EndpointAddress::Socket(address)),
            locality: Arc::new(Locality::default()),
            place: 0,
            priority: 0,
            handles: Handles::default(),
            state,
        });
        self.dialled.borrow_mut().insert(address, &endpoint, now);
        Ok(endpoint)
    }
}

fn leave(state: &EndpointState, outliers: &ClusterOutliers) {
    state.left.set(true);
    state.outlier.release(outliers);
    state.http1.close_all();
    state.http2.close_all();
}

/// The next endpoint after `index` that may take requests and was not tried. Envoy gives up after
/// some choices; a picker that prefers idle endpoints would then go back to one that is dead.
fn untried<'l>(
    list: &'l [Rc<UpstreamEndpoint>],
    index: usize,
    tried: &[Rc<UpstreamEndpoint>],
) -> Option<&'l Rc<UpstreamEndpoint>> {
    let priority = list[index].priority;
    let (before, after) = list.split_at(index);
    after.iter().chain(before).find(|one| {
        one.priority == priority
            && one.config.health.takes_requests()
            && !one.is_ejected()
            && !tried.iter().any(|tried| tried.is_same(one))
    })
}

/// Where `address` is: at one place, or wherever its name resolves to.
pub(super) fn targets(address: &EndpointAddress, names: &Names, family: DnsFamily) -> Vec<Target> {
    match address {
        EndpointAddress::Socket(address) => vec![Target::Socket(*address)],
        EndpointAddress::Pipe(path) => vec![Target::Pipe(Arc::clone(path))],
        EndpointAddress::Dns(name, port) => {
            let addresses = names.get(name).map(|found| &**found).unwrap_or_default();
            let target = |ip: &std::net::IpAddr| Target::Socket(SocketAddr::new(*ip, *port));
            addresses.iter().filter(|ip| family.takes(**ip, addresses)).map(target).collect()
        }
    }
}
