//! Names of endpoints are resolved, again and again, on the control thread.
//!
//! Reference: Envoy `STRICT_DNS`. What was found last stays valid while asking fails; that a name
//! has no addresses, or is not there, is an answer like any other. A cluster that comes from a
//! server is not shown before its names were asked for once (warming); until then it is one of
//! [`Early`].

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tulle_model::address::EndpointAddress;
use tulle_model::cluster::{Cluster, Discovery};
use tulle_model::snapshot::Snapshot;

/// What names resolve to. A name that could never be resolved is not in it.
pub type Names = Arc<HashMap<Arc<str>, Arc<[IpAddr]>>>;

/// Names that were answered since somebody wants them, well or badly.
pub type Answered = Rc<RefCell<HashSet<Arc<str>>>>;

/// Clusters that came and are not shown before their names are answered.
#[derive(Debug, Default)]
pub struct Early {
    clusters: RefCell<Vec<Weak<Cluster>>>,
    answered: Answered,
    came: Notify,
    answers: Notify,
}

impl Early {
    /// Has the names of a cluster resolved. What is answered is told by the value returned; none
    /// if it has no names.
    pub fn enter(&self, cluster: &Arc<Cluster>) -> Option<Answered> {
        names_of(cluster).next()?;
        let mut clusters = self.clusters.borrow_mut();
        clusters.retain(|known| known.strong_count() > 0);
        clusters.push(Arc::downgrade(cluster));
        self.came.notify_one();
        Some(Rc::clone(&self.answered))
    }

    /// Comes back when there is a cluster that was not there before.
    pub async fn came(&self) {
        self.came.notified().await;
    }

    /// Comes back when more names are answered. To be waited for by one alone.
    pub async fn answers(&self) {
        self.answers.notified().await;
    }

    /// Says which names are answered; what was found is known by now to whoever uses them.
    pub fn set_answered(&self, answered: HashSet<Arc<str>>) {
        let has_more = !answered.is_subset(&self.answered.borrow());
        *self.answered.borrow_mut() = answered;
        if has_more {
            self.answers.notify_one();
        }
    }

    fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.clusters.borrow().iter().filter_map(Weak::upgrade).collect()
    }
}

/// The names that a cluster wants to be resolved, and how often.
pub fn names_of(cluster: &Cluster) -> impl Iterator<Item = (&Arc<str>, Duration)> {
    let (endpoints, refresh) = match &cluster.discovery {
        Discovery::StrictDns { endpoints, refresh, .. } => (Some(endpoints), *refresh),
        Discovery::Static(_) | Discovery::OriginalDst | Discovery::Eds(_) => (None, REFRESH),
    };
    endpoints.into_iter().flat_map(|endpoints| endpoints.iter()).filter_map(move |endpoint| {
        match &endpoint.address {
            EndpointAddress::Dns(name, _) => Some((name, refresh)),
            EndpointAddress::Socket(_) | EndpointAddress::Pipe(_) => None,
        }
    })
}

/// Envoy's default for `dns_refresh_rate`.
pub const REFRESH: Duration = Duration::from_secs(5);
/// Shortest pause between two questions for one name.
pub const MIN_REFRESH: Duration = Duration::from_millis(1);
/// How long the answer to one question is waited for.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Names that are asked for at once.
pub const MAX_QUESTIONS: usize = 64;

/// Resolves what snapshots name.
#[derive(Debug, Default)]
pub struct Resolver {
    wanted: BTreeMap<Arc<str>, Wanted>,
    questions: JoinSet<(Arc<str>, io::Result<Vec<IpAddr>>)>,
    names: Names,
}

#[derive(Debug)]
struct Wanted {
    refresh: Duration,
    /// When to ask next; `None` while an answer is waited for.
    due: Option<Instant>,
    /// Whether it was answered, well or badly.
    answered: bool,
}

impl Resolver {
    /// What is known now.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// From now on resolves the names of `snapshot` and of clusters that are to come, and no
    /// others.
    pub fn want(&mut self, snapshot: &Snapshot, early: &Early) {
        let mut wanted = BTreeMap::new();
        let early = early.clusters();
        let clusters = snapshot.clusters().chain(&early);
        for (name, refresh) in clusters.flat_map(|cluster| names_of(cluster)) {
            let refresh = refresh.max(MIN_REFRESH);
            let shortest: &mut Duration = wanted.entry(Arc::clone(name)).or_insert(refresh);
            *shortest = refresh.min(*shortest);
        }
        self.wanted.retain(|name, _| wanted.contains_key(name));
        for (name, refresh) in wanted {
            let fresh = Wanted { refresh, due: Some(Instant::now()), answered: false };
            self.wanted.entry(name).or_insert(fresh).refresh = refresh;
        }
        if self.names.keys().any(|name| !self.wanted.contains_key(name)) {
            Arc::make_mut(&mut self.names).retain(|name, _| self.wanted.contains_key(name));
        }
    }

    /// Whether every name was answered once, well or badly.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        self.wanted.values().all(|wanted| wanted.answered)
    }

    /// The names that were answered, well or badly.
    #[must_use]
    pub fn answered(&self) -> HashSet<Arc<str>> {
        let answered = self.wanted.iter().filter(|(_, wanted)| wanted.answered);
        answered.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Asks and waits until something is known that was not known before. Never comes back
    /// while nothing is wanted. May be dropped and called again at any time.
    pub async fn changed(&mut self) {
        loop {
            self.ask();
            let due = self.wanted.values().filter_map(|wanted| wanted.due).min();
            let due = due.filter(|_| self.questions.len() < MAX_QUESTIONS);
            tokio::select! {
                Some(answer) = self.questions.join_next() => {
                    // A question that was broken off has no answer.
                    if let Ok((name, answer)) = answer
                        && self.take(&name, answer)
                    {
                        return;
                    }
                }
                () = until(due), if due.is_some() => {}
                else => std::future::pending().await,
            }
        }
    }

    fn ask(&mut self) {
        let now = Instant::now();
        let is_due = |wanted: &Wanted| wanted.due.filter(|due| *due <= now);
        let due = self
            .wanted
            .iter_mut()
            .filter_map(|(name, wanted)| Some((is_due(wanted)?, name, wanted)));
        let mut due: Vec<_> = due.collect();
        // What waits for its first answer goes first, or a slow server's turn never comes to it.
        due.sort_by_key(|(due, _, wanted)| (wanted.answered, *due));
        for (_, name, wanted) in due {
            if self.questions.len() >= MAX_QUESTIONS {
                return;
            }
            wanted.due = None;
            let name = Arc::clone(name);
            self.questions.spawn_local(async move {
                let answer = resolve(Arc::clone(&name)).await;
                (name, answer)
            });
        }
    }

    /// Whether the answer changed what is known.
    fn take(&mut self, name: &Arc<str>, answer: io::Result<Vec<IpAddr>>) -> bool {
        let Some(wanted) = self.wanted.get_mut(name) else { return false };
        wanted.due = Some(Instant::now() + wanted.refresh);
        let first = !std::mem::replace(&mut wanted.answered, true);
        let Ok(addresses) = answer else { return first };
        if self.names.get(name).is_some_and(|known| **known == *addresses) {
            return false;
        }
        Arc::make_mut(&mut self.names).insert(Arc::clone(name), addresses.into());
        true
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}

/// The addresses of `name`, sorted, each once; none where it has none or is not there.
async fn resolve(name: Arc<str>) -> io::Result<Vec<IpAddr>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the system's resolver blocks; see MAX_QUESTIONS"
    )]
    let asking = tokio::task::spawn_blocking(move || look_up(&name));
    let mut addresses =
        timeout(ANSWER_LIMIT, asking).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if let Ok(addresses) = &mut addresses {
        addresses.sort();
        addresses.dedup();
    }
    addresses
}

/// Asks the system's resolver (getaddrinfo(3)), which is waited for.
fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    // One entry for each address, not for each kind of socket too.
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    match getaddrinfo(Some(name), None, Some(hints)) {
        Ok(found) => found.map(|one| Ok(one?.sockaddr.ip())).collect(),
        Err(error) if is_answer(error.kind()) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether somebody who knows said that there are no addresses; all else is a failure to ask.
fn is_answer(kind: LookupErrorKind) -> bool {
    matches!(kind, LookupErrorKind::NoName | LookupErrorKind::NoData)
}

#[cfg(test)]
impl Resolver {
    /// One that wants and knows `names`.
    pub(super) fn knowing(names: HashMap<Arc<str>, Arc<[IpAddr]>>) -> Self {
        let known = || Wanted { refresh: REFRESH, due: None, answered: true };
        let wanted = |name: &Arc<str>| (Arc::clone(name), known());
        Self {
            wanted: names.keys().map(wanted).collect(),
            names: Arc::new(names),
            ..Self::default()
        }
    }

    /// Takes an answer as if it had been asked for.
    pub(super) fn learn(&mut self, name: &str, answer: io::Result<Vec<IpAddr>>) -> bool {
        self.take(&name.into(), answer)
    }
}
