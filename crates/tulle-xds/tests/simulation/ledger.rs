//! The books of one stream, kept by somebody who trusts neither side, and the rules they are
//! checked against. A broken rule is an `Err` that says which.

use std::collections::{BTreeMap, BTreeSet};

use tulle_xds::session::graph::{Key, Referrer};
use tulle_xds::session::message::{
    DeltaRequest, DeltaResponse, Name, Nonce, PerType, Resource, ResourceType, SotwRequest,
    SotwResponse,
};

use super::peer::{Kind, Request, Response, parse};
use super::world::{Doc, Snapshot};

pub type Verdict = Result<(), String>;

/// What was said on one stream.
pub struct Ledger {
    kind: Kind,
    said_anything: bool,
    said: PerType<bool>,
    /// Names subscribed, as the client said.
    subscribed: BTreeSet<Key>,
    /// Responses that arrived at the client and were not answered by it.
    unanswered: BTreeSet<(ResourceType, Nonce)>,
    /// What the client held when the stream began, and what it was sent since.
    versions: BTreeMap<Key, Name>,
    /// What each alias was last said to mean.
    meanings: BTreeMap<Key, Name>,
    /// Names asked for (again) since they were last answered.
    asked: BTreeSet<Key>,
    in_flight: PerType<Option<Response>>,
    /// Whether there was a response of the type on this stream.
    answered: PerType<bool>,
    /// The names that a state-of-the-world client asked for last.
    named: PerType<BTreeSet<Name>>,
    /// Types of whole states of which the client came with something.
    resumes: BTreeSet<ResourceType>,
    /// What the client is known to have accepted, by the time its ACKs came.
    accepted: BTreeMap<Key, Doc>,
}

impl Ledger {
    /// A new stream of a client that holds this, and knows these aliases.
    pub fn new(kind: Kind, held: Vec<(Key, Name)>, aliases: Vec<(Key, Name)>) -> Ledger {
        let accepted = held.iter().map(|(key, text)| (key.clone(), Doc::parse(text))).collect();
        let whole = held.iter().map(|(key, _)| key.0).filter(|rtype| rtype.whole_state());
        let resumes = whole.collect();
        Ledger {
            kind,
            said_anything: false,
            said: PerType::default(),
            subscribed: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            versions: held.into_iter().collect(),
            meanings: aliases.into_iter().collect(),
            asked: BTreeSet::new(),
            in_flight: PerType::default(),
            answered: PerType::default(),
            named: PerType::default(),
            resumes,
            accepted,
        }
    }

    /// The client says something.
    pub fn client_says(&mut self, request: &Request) -> Verdict {
        let rtype = request.rtype();
        if request.with_node() == self.said_anything {
            return Err("the node belongs on the first message and on no other".into());
        }
        self.said_anything = true;
        let first = !std::mem::replace(&mut self.said[rtype], true);
        if first && request.nonce().is_some() {
            return Err(format!("the first message about {rtype} is an ACK"));
        }
        let request = match request {
            Request::Delta(request) => request,
            Request::Sotw(request) => {
                let forgets = request.version.is_empty() && self.resumes.contains(&rtype);
                return match first && forgets {
                    true => Err(format!("a client comes back without its version of {rtype}")),
                    false => Ok(()),
                };
            }
        };
        if let Some(nonce) = &request.nonce
            && !self.unanswered.remove(&(rtype, nonce.clone()))
        {
            return Err(format!("an ACK of no {rtype} response that waits for one"));
        }
        if first && request.subscribe.is_empty() {
            return Err(format!("the first message about {rtype} names nothing"));
        }
        for name in &request.unsubscribe {
            self.subscribed.remove(&(rtype, name.clone()));
        }
        for name in &request.subscribe {
            if !self.subscribed.insert((rtype, name.clone())) {
                return Err(format!("{rtype} {name} is subscribed twice"));
            }
        }
        Ok(())
    }

    /// A response arrives at the client.
    pub fn client_hears(&mut self, response: &Response) {
        self.unanswered.insert((response.rtype(), response.nonce().clone()));
    }

    /// A request arrives at the server.
    pub fn server_hears(&mut self, request: &Request) {
        match request {
            Request::Delta(request) => self.delta_names(request),
            Request::Sotw(request) => self.sotw_names(request),
        }
        let rtype = request.rtype();
        let flight = &mut self.in_flight[rtype];
        if flight.as_ref().map(Response::nonce) != request.nonce() || request.nonce().is_none() {
            return;
        }
        let Some(response) = flight.take() else { return };
        match &response {
            Response::Delta(response) => {
                for name in &response.removed {
                    self.accepted.remove(&(rtype, name.clone()));
                }
            }
            Response::Sotw(_) if rtype.whole_state() => {
                self.accepted.retain(|key, _| key.0 != rtype);
            }
            Response::Sotw(_) => {}
        }
        // A rejected resource leaves the others of its response and its own last good in use.
        for resource in response.resources() {
            let doc = parse(resource);
            if !doc.bad {
                self.accepted.insert((rtype, resource.name.clone()), doc);
            }
        }
    }

    fn delta_names(&mut self, request: &DeltaRequest) {
        let rtype = request.rtype;
        if request.initial_versions.is_empty() {
            self.asked.extend(request.subscribe.iter().map(|name| (rtype, name.clone())));
        }
        for name in &request.unsubscribe {
            let key = (rtype, name.clone());
            // Under a wildcard the server has to say whether that has it.
            self.asked.insert(key.clone());
            let meaning = self.meanings.remove(&key).unwrap_or(name.clone());
            let others = self.meanings.iter().any(|(k, m)| k.0 == rtype && *m == meaning);
            if !others {
                if let Some(Response::Delta(response)) = &mut self.in_flight[rtype] {
                    response.resources.retain(|resource| resource.name != meaning);
                }
                self.accepted.remove(&(rtype, meaning.clone()));
                self.versions.remove(&(rtype, meaning));
            }
        }
    }

    fn sotw_names(&mut self, request: &SotwRequest) {
        let names: BTreeSet<Name> = request.names.iter().cloned().collect();
        let before = std::mem::replace(&mut self.named[request.rtype], names.clone());
        let fresh = names.difference(&before).map(|name| (request.rtype, name.clone()));
        self.asked.extend(fresh);
        if !request.rtype.whole_state() {
            self.accepted.retain(|key, _| key.0 != request.rtype || request.names.contains(&key.1));
        }
    }

    /// What is gone cannot be taken back from a client that is told changes only: should it come
    /// back, it is news.
    pub fn world_is(&mut self, snapshot: &Snapshot) {
        if self.kind == Kind::StockSotw {
            let stays = |key: &Key| key.0.whole_state() || snapshot.texts.contains_key(key);
            self.versions.retain(|key, _| stays(key));
        }
    }

    /// The server says something.
    pub fn server_says(&mut self, response: &Response, snapshot: &Snapshot) -> Verdict {
        let rtype = response.rtype();
        if self.in_flight[rtype].is_some() {
            return Err(format!("a second response about {rtype} is in flight"));
        }
        match response {
            Response::Delta(delta) => self.delta_response(delta, snapshot)?,
            Response::Sotw(sotw) => self.sotw_response(sotw, snapshot)?,
        }
        if self.kind != Kind::OnDemand && rtype == ResourceType::Route {
            self.nothing_before_its_clusters(response)?;
        }
        for resource in response.resources() {
            self.versions.insert((rtype, resource.name.clone()), text(resource));
        }
        self.in_flight[rtype] = Some(response.clone());
        Ok(())
    }

    fn delta_response(&mut self, response: &DeltaResponse, snapshot: &Snapshot) -> Verdict {
        let rtype = response.rtype;
        for resource in &response.resources {
            let key = (rtype, resource.name.clone());
            if snapshot.texts.get(&key) != Some(&text(resource)) {
                return Err(format!("{rtype} {} is not what the client may see", resource.name));
            }
            let mut news = self.versions.get(&key) != Some(&text(resource));
            news |= self.asked.remove(&key);
            for alias in &resource.aliases {
                let alias = (rtype, alias.clone());
                news |= self.asked.remove(&alias);
                let meaning = self.meanings.insert(alias, resource.name.clone());
                news |= meaning.as_ref() != Some(&resource.name);
            }
            if !news {
                return Err(format!("{rtype} {} is held and sent again", resource.name));
            }
        }
        for name in &response.removed {
            self.not_in_use((rtype, name.clone()))?;
            self.asked.remove(&(rtype, name.clone()));
            self.meanings.remove(&(rtype, name.clone()));
            self.versions.remove(&(rtype, name.clone()));
        }
        Ok(())
    }

    fn sotw_response(&mut self, response: &SotwResponse, snapshot: &Snapshot) -> Verdict {
        let rtype = response.rtype;
        let mut names = BTreeSet::new();
        for resource in &response.resources {
            let key = (rtype, resource.name.clone());
            let current = snapshot.texts.get(&key) == Some(&text(resource));
            // A whole state repeats what may not be changed or taken away yet.
            let repeated = rtype.whole_state() && self.versions.get(&key) == Some(&text(resource));
            if !current && !repeated {
                return Err(format!("{rtype} {} is not what the client may see", resource.name));
            }
            let is_held = self.versions.get(&key) == Some(&text(resource));
            let is_asked = self.asked.remove(&key);
            if !rtype.whole_state() && is_held && !is_asked {
                return Err(format!("{rtype} {} is held and sent again", resource.name));
            }
            names.insert(key);
        }
        // The first state after a reconnect cannot repeat what the server no longer knows.
        let first = !std::mem::replace(&mut self.answered[rtype], true);
        if rtype.whole_state() {
            let gone = self.versions.keys().filter(|key| key.0 == rtype && !names.contains(key));
            for key in gone.cloned().collect::<Vec<Key>>() {
                if !first {
                    self.not_in_use(key.clone())?;
                }
                self.versions.remove(&key);
            }
        }
        Ok(())
    }

    /// Nothing is taken away before what refers to it was acknowledged in a version that does not.
    fn not_in_use(&self, gone: Key) -> Verdict {
        if !self.versions.contains_key(&gone) {
            return Ok(());
        }
        let user = self
            .accepted
            .iter()
            .find(|(user, doc)| doc.references().contains(&gone) && self.in_use(user));
        match user {
            Some((user, _)) => Err(format!(
                "{} {} is removed while {} {} refers to it",
                gone.0, gone.1, user.0, user.1
            )),
            None => Ok(()),
        }
    }

    /// The state of the world cannot say that a route is gone; without a listener it is not used.
    fn in_use(&self, user: &Key) -> bool {
        let mut others = self.accepted.values();
        self.kind != Kind::StockSotw
            || user.0 != ResourceType::Route
            || others.any(|doc| doc.references().contains(user))
    }

    /// A client that gets clusters by wildcard gets them, with endpoints, before a route to them.
    fn nothing_before_its_clusters(&self, response: &Response) -> Verdict {
        for resource in response.resources() {
            for (_, cluster) in parse(resource).references() {
                for rtype in [ResourceType::Cluster, ResourceType::Endpoints] {
                    if !self.accepted.contains_key(&(rtype, cluster.clone())) {
                        return Err(format!(
                            "route {} is sent before {rtype} {cluster}",
                            resource.name
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

fn text(resource: &Resource) -> Name {
    parse(resource).text
}
