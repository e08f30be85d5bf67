//! What becomes of the answers: decoded, put into the configuration, counted, kept on disk.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tulle_model::lookup::Needed;
use tulle_model::resource::Resource as Accepted;
use tulle_model::snapshot::Change;
use tulle_xds::decode;
use tulle_xds::driver::client::Application;
use tulle_xds::driver::link::Lost;
use tulle_xds::fields::UnknownFields;
use tulle_xds::session::client::ClientCore;
use tulle_xds::session::delta_client::DeltaClient;
use tulle_xds::session::message::{Name, Resource, ResourceType};
use tulle_xds::session::on_demand::{Change as Told, Kept, OnDemand};

use crate::configuration::{ApplyError, Configuration};
use crate::discovery::Outcome;
use crate::discovery::flood::Flood;
use crate::discovery::held::{Held, change, needed};
use crate::discovery::saved::{SavedResource, SavedState};
use crate::metrics::discovery::DiscoverySeries;
use crate::upstream::dns::Early;

/// How long a change waits for others before all is written to disk, as it is then: what is in the
/// middle of a burst of first calls has better things to do.
const SAVE_AFTER: Duration = Duration::from_millis(500);

/// How far the first configuration is.
#[derive(Debug, Default)]
pub struct Progress {
    begun: Cell<bool>,
    knows_listeners: Cell<bool>,
    changed: Notify,
}

impl Progress {
    /// Comes back when the first configuration is there, or was waited for long enough.
    pub async fn begun(&self) {
        while !self.begun.get() {
            self.changed.notified().await;
        }
    }

    /// Whether the server has said which listeners are to be bound, if any.
    #[must_use]
    pub fn knows_listeners(&self) -> bool {
        self.knows_listeners.get()
    }

    /// Comes back when the server has said which listeners are to be bound, if any.
    pub async fn listeners_known(&self) {
        while !self.knows_listeners.get() {
            self.changed.notified().await;
        }
    }

    fn note<C: ClientCore>(&self, session: &OnDemand<C, Held>) {
        let news = |of: &Cell<bool>, now: bool| now && !of.replace(true);
        let begun = news(&self.begun, session.has_begun());
        if news(&self.knows_listeners, session.knows_listeners()) || begun {
            self.changed.notify_waiters();
        }
    }
}

/// Takes in what the session says.
#[derive(Debug)]
pub struct Learner {
    configuration: Rc<RefCell<Configuration>>,
    early: Rc<Early>,
    flood: Flood,
    progress: Rc<Progress>,
    series: DiscoverySeries,
    /// Who is asked, for the log.
    server: String,
    state: Option<SavedState>,
    unknown: UnknownFields,
    /// Since when something is not on disk.
    unsaved_since: Option<Instant>,
    /// Writes, while names are asked for.
    saving: Option<JoinHandle<()>>,
}

impl Learner {
    /// One that has learnt nothing.
    #[must_use]
    pub fn new(
        outcome: Outcome,
        server: String,
        state: Option<SavedState>,
        unknown: UnknownFields,
    ) -> Self {
        let Outcome { configuration, early, refused, progress, series } = outcome;
        let flood = Flood::told_to(refused);
        Self {
            configuration,
            early,
            flood,
            progress,
            series,
            server,
            state,
            unknown,
            unsaved_since: None,
            saving: None,
        }
    }

    /// Serves what an earlier process kept until the server says otherwise. What cannot be read any
    /// more is left out.
    pub fn restore(&mut self, session: &mut OnDemand<DeltaClient, Held>, now: Instant) {
        let Some(state) = &self.state else { return };
        let saved = match state.load() {
            Ok(saved) if saved.is_empty() => return,
            Ok(saved) => saved,
            Err(error) => return tracing::warn!(%error, "what was kept cannot be read"),
        };
        tracing::info!(resources = saved.len(), "serving what was kept");
        let mut told = Vec::new();
        for SavedResource { rtype, name, version, asked, body } in saved {
            match decode::resource(rtype.into(), &body, UnknownFields::Warn) {
                Ok(decoded) => {
                    let value = self.held(decoded.value, version.clone(), body);
                    let kept = Kept { key: (rtype, name), version, asked, value };
                    told.extend(session.restore(kept, now));
                }
                Err(found) => {
                    tracing::warn!(resource = %name, %found, "a kept resource is left out");
                }
            }
        }
        self.put(told);
    }

    /// A resource that is shown as soon as it is of use.
    fn held(&self, resource: Accepted, version: Arc<str>, body: Bytes) -> Held {
        let answered = match &resource {
            Accepted::Cluster(cluster) => self.early.enter(cluster),
            Accepted::Listener(_) | Accepted::Routes(_) | Accepted::Endpoints(_) => None,
        };
        Held { resource, version, body, answered }
    }

    /// Changes the configuration, all at once.
    fn put(&mut self, told: Vec<Told<Held>>) {
        let refused = self.flood.tell(&told);
        self.series.names_refused(refused);
        let mut versions: BTreeMap<Needed, Arc<str>> = BTreeMap::new();
        for told in &told {
            match told {
                Told::Shown { rtype, name, value } => {
                    versions.insert(needed(*rtype, name), value.version.clone());
                }
                Told::Hidden { rtype, name } => drop(versions.remove(&needed(*rtype, name))),
                Told::Answered { .. } => {}
            }
        }
        let changes: Vec<Change> = told.into_iter().filter_map(change).collect();
        let mut configuration = self.configuration.borrow_mut();
        let errors = configuration.apply(changes);
        configuration.ledger_mut().note_versions(versions);
        for error in errors {
            tracing::error!("{error}");
            // Somebody took its address since it was accepted.
            if let ApplyError::Bind { listener, source } = error {
                let ledger = configuration.ledger_mut();
                let needed = Needed::Listener(listener);
                let refusal = (ledger.version(&needed), source.to_string().into());
                ledger.note_refusal(needed, Some(refusal));
            }
        }
    }

    fn note_refusal(&self, rtype: ResourceType, name: &str, refusal: Option<(Arc<str>, Arc<str>)>) {
        let mut configuration = self.configuration.borrow_mut();
        configuration.ledger_mut().note_refusal(needed(rtype, name), refusal);
    }

    fn save<C: ClientCore>(&mut self, session: &OnDemand<C, Held>) {
        let Some(state) = &self.state else { return };
        let due = self.unsaved_since.is_some_and(|since| since.elapsed() >= SAVE_AFTER);
        // One after the other: an older version must not replace a newer one.
        let busy = self.saving.as_ref().is_some_and(|saving| !saving.is_finished());
        if !due || busy {
            return;
        }
        let kept = session.kept().map(|((rtype, name), held, asked)| SavedResource {
            rtype: *rtype,
            name: name.clone(),
            version: held.version.clone(),
            asked,
            body: held.body.clone(),
        });
        let (state, kept) = (state.clone(), kept.collect::<Vec<_>>());
        self.unsaved_since = None;
        #[expect(clippy::disallowed_methods, reason = "one file, one at a time")]
        let saving = tokio::task::spawn_blocking(move || {
            if let Err(error) = state.save(&kept) {
                tracing::warn!(%error, "what is served cannot be kept");
            }
        });
        self.saving = Some(saving);
    }
}

impl Application for Learner {
    type Value = Held;

    fn removes(&mut self, rtype: ResourceType, names: &[Name]) {
        if rtype == ResourceType::Listener {
            let names = names.iter().map(|name| name.clone().into());
            self.configuration.borrow_mut().removes(names);
        }
    }

    fn decode(&mut self, rtype: ResourceType, resource: &Resource) -> Result<Held, String> {
        let Resource { name, version, body, .. } = resource;
        let body = body.as_ref().ok_or("it has no body")?;
        let decoded = decode::resource(rtype.into(), body, self.unknown);
        let decoded = decoded.map_err(|found| found.to_string()).and_then(|decoded| {
            if let Accepted::Listener(listener) = &decoded.value {
                self.configuration.borrow_mut().claim(listener)?;
            }
            Ok(decoded)
        });
        let why = match decoded {
            Ok(decoded) => {
                for warning in &decoded.warnings {
                    tracing::warn!(resource = %name, "{warning}");
                }
                self.series.accepted(rtype);
                self.note_refusal(rtype, name, None);
                // A part of what was received would keep all of it.
                let body = self.state.as_ref().map(|_| Bytes::copy_from_slice(body));
                let body = body.unwrap_or_default();
                return Ok(self.held(decoded.value, version.clone(), body));
            }
            Err(why) => why,
        };
        tracing::warn!(resource = %name, version = %version, why, "a resource is refused");
        self.series.rejected(rtype);
        self.note_refusal(rtype, name, Some((version.clone(), why.as_str().into())));
        Err(why)
    }

    fn apply(&mut self, changes: Vec<Told<Held>>) {
        self.unsaved_since.get_or_insert_with(Instant::now);
        self.put(changes);
    }

    async fn warmed(&self) {
        self.early.answers().await;
    }

    fn linked(&mut self, state: Result<(), Lost>) {
        self.series.set_connected(state.is_ok());
        self.configuration.borrow_mut().set_reachable(state.is_ok());
        match state {
            Ok(()) => tracing::info!(server = self.server, "the configuration server is connected"),
            Err(lost) => {
                let error = chain(&lost);
                tracing::warn!(server = self.server, error, "no configuration server");
            }
        }
    }

    fn rested<C: ClientCore>(&mut self, session: &OnDemand<C, Held>) {
        self.flood.log();
        self.configuration.borrow_mut().drop_claims();
        self.progress.note(session);
        self.save(session);
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
