//! What is done to the mesh while clients call: instances come and go, configuration is edited,
//! bad files appear, nobody's favourites are called, the control plane is killed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tulle_lab::client::http1::Client;

use crate::checks::Check;
use crate::journal::Journal;
use crate::mesh::{Instance, Mesh, PATIENCE};
use crate::objects::{self, Harm};

/// An instance starts and another drains this often.
pub const CHURN: Duration = Duration::from_millis(200);
/// Configuration is edited this often.
pub const EDIT: Duration = Duration::from_secs(1);
/// A bad file appears this often.
pub const BAD_FILE: Duration = Duration::from_secs(15);
/// A destination that nobody has called yet is called this often.
pub const SELDOM: Duration = Duration::from_secs(10);
/// The first one: three seconds after a kill there is one, which the proxy holds back until the
/// control plane is there again.
const FIRST_SELDOM: Duration = Duration::from_secs(8);
/// The control plane is killed this often.
pub const KILL: Duration = Duration::from_secs(30);
/// The first time after half of that.
const FIRST_KILL: Duration = Duration::from_secs(15);
/// How long it is away.
pub const OUTAGE: Duration = Duration::from_secs(2);
/// Instances that stay besides the stable ones, of those that come and go.
const FLOOR: usize = 6;
/// Instances that start at the same time at most: a busy machine starts fewer, and that is told.
const STARTING_LIMIT: usize = 16;
/// How long an instance may take to leave once nobody holds it any more.
const LEAVE: Duration = Duration::from_secs(30);

/// All that is done to the mesh.
#[derive(Debug)]
pub struct Faults {
    mesh: Rc<Mesh>,
    journal: Rc<Journal>,
    sabotage: Option<Check>,
    /// Instances of those that come and go, the oldest first.
    serving: RefCell<VecDeque<Instance>>,
    starting: Cell<usize>,
    leaving: Cell<usize>,
    edits: Cell<u64>,
    stopped: Cell<bool>,
    /// How long a draining instance may be held by the clients' streams.
    held: Duration,
}

impl Faults {
    /// Nothing is done yet.
    pub fn new(mesh: Rc<Mesh>, journal: Rc<Journal>, sabotage: Option<Check>) -> Self {
        Self {
            mesh,
            journal,
            sabotage,
            serving: RefCell::default(),
            starting: Cell::default(),
            leaving: Cell::default(),
            edits: Cell::default(),
            stopped: Cell::default(),
            held: Duration::from_secs(3600),
        }
    }

    /// Starts the instances that come and go.
    pub async fn populate(&self) -> Result<()> {
        for _ in 0..FLOOR {
            let instance = self.mesh.instance().await?;
            self.serving.borrow_mut().push_back(instance);
        }
        Ok(())
    }

    /// Begins; what was begun ends after [`Self::stop`].
    pub fn begin(self: &Rc<Self>) -> Vec<JoinHandle<()>> {
        let every = |period, first, act: fn(Rc<Self>, u64)| {
            spawn_local(Rc::clone(self).repeat(period, first, act))
        };
        vec![
            every(CHURN, CHURN, |faults, _| faults.churn()),
            every(EDIT, EDIT, |faults, number| faults.edit(number + 1)),
            every(BAD_FILE, BAD_FILE / 3, |faults, number| {
                spawn_local(async move { faults.bad_file(number).await });
            }),
            every(SELDOM, FIRST_SELDOM, |faults, number| {
                spawn_local(async move { faults.call_seldom(number).await });
            }),
            every(KILL, FIRST_KILL, |faults, _| {
                spawn_local(async move { faults.kill_control().await });
            }),
        ]
    }

    async fn repeat(self: Rc<Self>, period: Duration, first: Duration, act: fn(Rc<Self>, u64)) {
        let mut ticks = interval_at(Instant::now() + first, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            ticks.tick().await;
            if self.stopped.get() {
                return;
            }
            act(Rc::clone(&self), number);
            number += 1;
        }
    }

    /// Does nothing more.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    /// Waits until everybody who drains is gone.
    pub async fn until_left(&self) {
        let end = Instant::now() + LEAVE + PATIENCE;
        while (self.leaving.get() > 0 || self.starting.get() > 0) && Instant::now() < end {
            sleep(Duration::from_millis(50)).await;
        }
        if self.leaving.get() > 0 {
            let text = format!("{} instances never left", self.leaving.get());
            self.journal.trouble(Check::Drained.name(), text);
        }
    }

    fn churn(self: Rc<Self>) {
        self.journal.tally("churn-planned");
        if self.sabotage == Some(Check::Churn) {
            return;
        }
        if self.starting.get() < STARTING_LIMIT {
            self.starting.set(self.starting.get() + 1);
            let faults = Rc::clone(&self);
            spawn_local(async move {
                faults.start().await;
                faults.starting.set(faults.starting.get() - 1);
            });
        }
        let is_enough = self.serving.borrow().len() > FLOOR;
        let oldest = is_enough.then(|| self.serving.borrow_mut().pop_front()).flatten();
        if let Some(instance) = oldest {
            self.leaving.set(self.leaving.get() + 1);
            spawn_local(async move {
                self.drain(instance).await;
                self.leaving.set(self.leaving.get() - 1);
            });
        }
    }

    async fn start(&self) {
        match self.mesh.instance().await {
            Ok(instance) => {
                self.journal.count("started", format!("{} is ready", instance.name));
                self.serving.borrow_mut().push_back(instance);
            }
            Err(error) => {
                self.journal.trouble(Check::Churn.name(), format!("no instance: {error:#}"));
            }
        }
    }

    async fn drain(&self, mut instance: Instance) {
        let name = instance.name.clone();
        self.journal.note(format!("{name} drains"));
        if self.sabotage == Some(Check::Drained) {
            instance.sidecar.signal(rustix::process::Signal::STOP);
        }
        if self.sabotage.is_some_and(Check::is_shown_by_killing) {
            instance.sidecar.kill();
            instance.app.kill();
            self.journal.count("drained", format!("{name} was killed"));
            return;
        }
        match instance.drain(self.held).await {
            Ok(()) => self.journal.count("drained", format!("{name} has left")),
            Err(error) => {
                self.journal.trouble(Check::Drained.name(), format!("{name}: {error:#}"));
            }
        }
    }

    fn edit(self: Rc<Self>, number: u64) {
        let harm = match self.sabotage {
            Some(Check::ServerError) => Some(Harm::Abort(503)),
            Some(Check::Other) => Some(Harm::Abort(418)),
            Some(Check::Timeout) => Some(Harm::Delay),
            _ => None,
        };
        let text = objects::edit(number, harm);
        self.edits.set(number);
        match objects::write(&self.mesh.config(), "rule.yaml", &text) {
            Ok(()) => self.journal.count("edits", format!("edit {number}")),
            Err(error) => self.journal.trouble(Check::Edits.name(), format!("{error:#}")),
        }
    }

    /// Whether the last edit is in force at the applications.
    pub async fn last_edit_is_in_force(&self) -> Result<u64> {
        let expected = match self.sabotage {
            Some(Check::Edits) => self.edits.get() + 1,
            _ => self.edits.get(),
        };
        let address = SocketAddr::from((objects::ADDRESS, objects::HTTP1));
        let seen = tulle_lab::deadline::until("the last edit", PATIENCE, || async {
            let mut client = Client::connect(address).await.ok()?;
            let answer = client.get("echo", "/").await.ok()?;
            let json: Value = serde_json::from_str(&answer.text()).ok()?;
            let seen = json["headers"][objects::EDIT_HEADER].as_str()?.parse::<u64>().ok()?;
            (seen == expected).then_some(seen)
        });
        seen.await
    }

    async fn bad_file(&self, number: u64) {
        let sabotaged = self.sabotage == Some(Check::BadFiles);
        let text = if sabotaged { objects::NOT_BAD } else { objects::bad(number) };
        let done = async {
            objects::write(&self.mesh.config(), "bad.yaml", text)?;
            self.journal.note("a bad file");
            let found = |findings: &Value| findings.to_string().contains("bad.yaml");
            self.mesh.until("/api/v1/findings", found).await?;
            std::fs::remove_file(self.mesh.config().join("bad.yaml"))?;
            let gone = |findings: &Value| !findings.to_string().contains("bad.yaml");
            self.mesh.until("/api/v1/findings", gone).await?;
            anyhow::Ok(())
        };
        match done.await {
            Ok(()) => self.journal.count("bad-files", "the bad file was refused and is gone"),
            Err(error) => self.journal.trouble(Check::BadFiles.name(), format!("{error:#}")),
        }
    }

    async fn call_seldom(&self, number: u64) {
        match seldom_answer(number).await {
            Ok(took) => {
                let took = took.as_millis();
                self.journal.count("seldom", format!("seldom-{number} answered after {took} ms"));
            }
            Err(error) => {
                let text = format!("seldom-{number}: {error:#}");
                self.journal.trouble(Check::NeverSeen.name(), text);
            }
        }
    }

    async fn kill_control(&self) {
        if self.sabotage == Some(Check::ControlPlane) {
            return;
        }
        self.mesh.kill_control();
        self.journal.count("kills", "the control plane is killed");
        sleep(OUTAGE).await;
        match self.mesh.start_control().await.context("the control plane does not come back") {
            Ok(()) => self.journal.count("restarts", "the control plane is back"),
            Err(error) => self.journal.trouble(Check::ControlPlane.name(), format!("{error:#}")),
        }
    }
}

/// Calls the destination with this number; how long it took.
pub async fn seldom_answer(number: u64) -> Result<Duration> {
    let number = u16::try_from(number)?;
    let address = SocketAddr::from((objects::seldom_address(number), objects::HTTP1));
    let begun = Instant::now();
    let mut client = Client::connect(address).await?;
    let answer = client.get(&format!("seldom-{number}"), "/").await?;
    let reason = answer.header("x-tulle-reason").unwrap_or_default();
    ensure!(answer.status() == 200, "{} {reason} {}", answer.status(), answer.text());
    Ok(begun.elapsed())
}
