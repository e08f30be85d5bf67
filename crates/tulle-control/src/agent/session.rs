//! One stream of one proxy: what it says goes to the registry and the status, questions go down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::{agent_down::Message as Down, agent_up::Message as Up};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tonic::{Status as GrpcStatus, Streaming};
use tulle_xds::proto::tulle::v1 as proto;

use super::questions::{Asked, Open};
use super::{Shared, registration};
use crate::ingest::registry::{Event, LEASE, StreamId, WorkloadError, WorkloadName};
use crate::status::{AgentGuard, AgentReport};

/// Longest text of a proxy that is kept for operators, in characters.
const MAX_TEXT: usize = 400;
/// Most findings that are kept for one type.
const MAX_FINDINGS: usize = 64;

/// How long a proxy may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// How long proxies may take to hold what they were sent, before somebody leaves without them.
const HEARD_LIMIT: Duration = Duration::from_secs(3);

type DownSender = mpsc::Sender<Result<proto::AgentDown, GrpcStatus>>;

/// Serves one stream until the proxy ends it.
pub(super) async fn serve(
    mut messages: Streaming<proto::AgentUp>,
    down: &DownSender,
    shared: &Arc<Shared>,
    stream: StreamId,
) -> Result<(), GrpcStatus> {
    let first = tokio::time::timeout(HELLO_LIMIT, messages.message()).await;
    let silent = |_| {
        let text = format!("no Hello within {} s", HELLO_LIMIT.as_secs());
        GrpcStatus::deadline_exceeded(text)
    };
    let Some(proto::AgentUp { message: Some(Up::Hello(hello)) }) = first.map_err(silent)?? else {
        return Err(GrpcStatus::invalid_argument("the first message is not a Hello"));
    };
    let mut superseded = shared.registry.superseded();
    let (mut session, mut questions) = Session::open(hello, down, shared, stream).await?;
    loop {
        tokio::select! {
            message = messages.message() => match message? {
                Some(message) => session.handle(message).await?,
                None => return Ok(()),
            },
            Some(asked) = questions.recv() => session.ask(asked).await?,
            other = superseded.recv() => session.give_way(other).await?,
            Some(_) = session.withdrawing.join_next() => {}
        }
    }
}

/// A stream that said who it is. Dropping it tells the registry that it ended.
struct Session<'a> {
    shared: &'a Arc<Shared>,
    down: &'a DownSender,
    stream: StreamId,
    workload: WorkloadName,
    open: Open,
    status: AgentGuard,
    /// Waits until callers have heard that the workload drains.
    withdrawing: JoinSet<()>,
    /// Whether the registry took the workload in.
    registered: bool,
}

impl<'a> Session<'a> {
    async fn open(
        hello: proto::Hello,
        down: &'a DownSender,
        shared: &'a Arc<Shared>,
        stream: StreamId,
    ) -> Result<(Self, mpsc::Receiver<Asked>), GrpcStatus> {
        let invalid = |error: WorkloadError| GrpcStatus::invalid_argument(error.to_string());
        let workload = WorkloadName::new(&hello.namespace, &hello.name).map_err(invalid)?;
        let questions = shared.questions.open(&workload, stream);
        let status = shared.status.agent(report(&hello));
        let open = Open::default();
        let withdrawing = JoinSet::new();
        let registered = false;
        let mut session =
            Self { shared, down, stream, workload, open, status, withdrawing, registered };
        session.registered = session.register(hello).await?;
        Ok((session, questions))
    }

    /// Whether the registry took the workload in; if not, the proxy is told why.
    async fn register(&self, hello: proto::Hello) -> Result<bool, GrpcStatus> {
        let reason = match registration::read(&hello) {
            Ok(None) => return Ok(false),
            Ok(Some(workload)) => {
                let instance = hello.instance.as_str().into();
                let event = Event::Register { stream: self.stream, instance, workload };
                match self.shared.registry.handle(event, Instant::now()) {
                    Ok(_) => {
                        let lease_seconds = LEASE.as_secs() as u32;
                        self.send(Down::Registered(proto::Registered { lease_seconds })).await?;
                        return Ok(true);
                    }
                    Err(refusal) => refusal.to_string(),
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(workload = %self.workload, reason, "a registration is refused");
        self.send(Down::Refused(proto::Refused { reason })).await?;
        Ok(false)
    }

    async fn handle(&mut self, message: proto::AgentUp) -> Result<(), GrpcStatus> {
        self.tell(Event::Heard(self.stream));
        if self.registered && self.shared.registry.entry(&self.workload).is_none() {
            // A proxy says what it offers once for each stream: on the next one it is back.
            return Err(GrpcStatus::aborted("the lease ran out; connect and register again"));
        }
        match message.message {
            Some(Up::Hello(_)) => {
                return Err(GrpcStatus::invalid_argument("a second Hello on one stream"));
            }
            Some(Up::Readiness(readiness)) => {
                self.tell(Event::Ready { stream: self.stream, ready: readiness.ready });
                self.status.change(|report| {
                    report.ready = Some(readiness.ready);
                    report.reason = shorten(&readiness.reason);
                });
            }
            Some(Up::Draining(_)) => self.drain(),
            Some(Up::Answer(answer)) => self.open.answer(answer),
            Some(Up::Applied(applied)) => self.status.change(|report| note(report, applied)),
            // A message of a newer proxy; hearing it was all there was to do.
            None => {}
        }
        Ok(())
    }

    /// Withdraws the workload and says so once callers have heard of it.
    fn drain(&mut self) {
        self.status.change(|report| report.draining = true);
        let version = self.tell(Event::Drain(self.stream));
        if self.withdrawing.is_empty() {
            let (shared, down) = (Arc::clone(self.shared), self.down.clone());
            self.withdrawing.spawn(async move {
                heard(&shared, version).await;
                let message = Down::Withdrawn(proto::Withdrawn {});
                // A proxy that is gone does not want to know.
                let _ = down.send(Ok(proto::AgentDown { message: Some(message) })).await;
            });
        }
    }

    async fn ask(&mut self, asked: Asked) -> Result<(), GrpcStatus> {
        match self.open.number(asked) {
            Some(question) => self.send(Down::Question(question)).await,
            None => Ok(()),
        }
    }

    async fn give_way(
        &self,
        other: Result<StreamId, broadcast::error::RecvError>,
    ) -> Result<(), GrpcStatus> {
        if other != Ok(self.stream) {
            return Ok(());
        }
        let reason = format!("another process registered as {}", self.workload);
        tracing::warn!(workload = %self.workload, "a newer process took over the registration");
        self.send(Down::Refused(proto::Refused { reason })).await
    }

    fn tell(&self, event: Event) -> u64 {
        // Only registering is ever refused.
        self.shared.registry.handle(event, Instant::now()).unwrap_or_default()
    }

    async fn send(&self, message: Down) -> Result<(), GrpcStatus> {
        let message = proto::AgentDown { message: Some(message) };
        let sent = self.down.send(Ok(message)).await;
        sent.map_err(|_| GrpcStatus::cancelled("the proxy is gone"))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.tell(Event::Closed(self.stream));
        self.shared.questions.close(&self.workload, self.stream);
    }
}

/// Waits until the proxies that are connected hold what is published of `version` of the registry,
/// once those have had time to come back that a restart of this control plane has cut off.
async fn heard(shared: &Shared, version: u64) {
    let mut published = shared.in_force.registry.clone();
    // An error means that nothing is computed any more; then nobody is sent there either.
    let _ = published.wait_for(|published| *published >= Some(version)).await;
    tokio::time::sleep_until(shared.all_back.into()).await;
    let generation = shared.in_force.publisher.generation();
    // Whoever does not answer for so long does not hold up the others.
    let _ = tokio::time::timeout(HEARD_LIMIT, shared.status.synced(generation)).await;
}

fn report(hello: &proto::Hello) -> AgentReport {
    AgentReport {
        node_id: shorten(&hello.node_id),
        namespace: hello.namespace.clone(),
        name: hello.name.clone(),
        instance: shorten(&hello.instance),
        version: shorten(&hello.version),
        service: hello.registration.as_ref().map(|registration| shorten(&registration.service)),
        ..AgentReport::default()
    }
}

fn note(report: &mut AgentReport, applied: proto::Applied) {
    report.generation = applied.generation;
    let known = tulle_xds::proto::TYPE_URLS.contains(&&*applied.type_url);
    if !known {
        return;
    }
    for (kept, findings) in
        [(&mut report.refused, applied.errors), (&mut report.warnings, applied.warnings)]
    {
        let texts: Vec<String> = findings.iter().take(MAX_FINDINGS).map(finding).collect();
        match texts.is_empty() {
            true => kept.remove(&applied.type_url),
            false => kept.insert(applied.type_url.clone(), texts),
        };
    }
}

fn finding(finding: &proto::Finding) -> String {
    shorten(&format!("{} {}: {}", finding.resource, finding.path, finding.text))
}

fn shorten(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
