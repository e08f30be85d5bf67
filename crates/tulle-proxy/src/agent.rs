//! The stream on which this proxy registers its workload, says whether it takes traffic, and
//! answers operators (design D13). Dialled by the proxy, on the control thread.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tulle_runtime::drain::driver::DrainHandle;
use tulle_xds::driver::dial::Target;
use tulle_xds::proto::tulle::v1 as proto;
use tulle_xds::proto::tulle::v1::agent_client::AgentClient;

use crate::settings::{InboundPort, MeshSettings, Role, ServiceRegistration};

use proto::agent_down::Message as Down;
use proto::agent_up::Message as Up;
use proto::answer::Content;
use proto::question::Ask;

/// How often the control plane hears from a proxy that has nothing to say: well within a lease.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long a proxy that drains looks for a control plane that tells its callers. One that restarts
/// is back by then.
const SEARCH_TIME: Duration = Duration::from_secs(5);
/// How long a proxy waits before it dials again.
const REDIAL: Duration = Duration::from_secs(1);
/// Longest part of an answer, in bytes.
const PART_BYTES: usize = 1024 * 1024;
/// Messages that wait for the transport.
const QUEUED: usize = 64;

/// What the rest of the process knows that operators may ask for.
pub trait Answers {
    /// The answer as JSON, or a sentence for the operator who asked.
    fn tell(&self, asked: Ask) -> impl Future<Output = Result<Value, String>>;
}

/// What the control plane is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not everything is bound yet.
    Starting,
    /// Traffic is welcome.
    Ready,
    /// The end has begun.
    Draining,
}

/// The agent of one proxy.
#[derive(Debug)]
pub struct Agent {
    target: Target,
    hello: proto::Hello,
    condition: watch::Receiver<Condition>,
    drain: DrainHandle,
}

impl Agent {
    /// An agent that says `hello` and follows `condition`.
    #[must_use]
    pub fn new(
        target: Target,
        hello: proto::Hello,
        condition: watch::Receiver<Condition>,
        drain: DrainHandle,
    ) -> Self {
        Self { target, hello, condition, drain }
    }

    /// Keeps a stream open for as long as the process lives; never comes back.
    pub async fn run(mut self, answers: &impl Answers) {
        let mut search = Search::default();
        loop {
            if let Err(error) = self.connect(answers, &mut search).await {
                tracing::debug!(%error, "the agent stream ended");
            }
            if *self.condition.borrow() == Condition::Draining && search.is_over(Instant::now()) {
                self.drain.unheard();
            }
            tokio::time::sleep(REDIAL).await;
        }
    }

    async fn connect(&mut self, answers: &impl Answers, search: &mut Search) -> anyhow::Result<()> {
        let channel = self.target.connect().await?;
        let (up, queue) = mpsc::channel(QUEUED);
        // Who drains registers too: its inbound listener is made of that. A control plane that
        // knows it keeps what it knows of its readiness, another one takes it for not ready.
        up.try_send(message(Up::Hello(self.hello.clone())))?;
        self.say_condition(&up)?;
        let mut client = AgentClient::new(channel);
        let mut down = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        search.found();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.reset();
        loop {
            tokio::select! {
                changed = self.condition.changed() => {
                    changed?;
                    self.say_condition(&up)?;
                }
                _ = heartbeat.tick() => self.say_condition(&up)?,
                asked = next(&mut down) => match asked? {
                    Some(asked) => self.answer(asked, answers, &up).await?,
                    None => return Ok(()),
                },
            }
        }
    }

    fn say_condition(&self, up: &mpsc::Sender<proto::AgentUp>) -> anyhow::Result<()> {
        let said = match *self.condition.borrow() {
            Condition::Starting => {
                let reason = "listeners are not bound yet".to_owned();
                Up::Readiness(proto::Readiness { ready: false, reason })
            }
            Condition::Ready => {
                Up::Readiness(proto::Readiness { ready: true, reason: String::new() })
            }
            Condition::Draining => Up::Draining(proto::Draining { deadline_seconds: 0 }),
        };
        Ok(up.try_send(message(said))?)
    }

    async fn answer(
        &self,
        asked: Down,
        answers: &impl Answers,
        up: &mpsc::Sender<proto::AgentUp>,
    ) -> anyhow::Result<()> {
        match asked {
            Down::Question(question) => {
                for part in answered(question, answers).await {
                    up.send(message(Up::Answer(part))).await?;
                }
            }
            Down::Withdrawn(_) => self.drain.withdrawn(),
            Down::Refused(refused) => {
                tracing::error!(reason = refused.reason, "the registration is refused");
            }
            Down::Registered(_) => tracing::info!("registered"),
        }
        Ok(())
    }
}

/// How long a proxy that drains has been without a control plane. To leave at once would leave it
/// to all callers to find out: while the control plane restarts, that can be many at a time.
#[derive(Debug, Default)]
struct Search(Option<Instant>);

impl Search {
    fn found(&mut self) {
        self.0 = None;
    }

    /// Nobody was found by `now`; whether to look no longer.
    fn is_over(&mut self, now: Instant) -> bool {
        now - *self.0.get_or_insert(now) >= SEARCH_TIME
    }
}

async fn next(down: &mut Streaming<proto::AgentDown>) -> anyhow::Result<Option<Down>> {
    Ok(down.message().await?.and_then(|message| message.message))
}

fn message(message: Up) -> proto::AgentUp {
    proto::AgentUp { message: Some(message) }
}

/// The answer to a question, in parts.
async fn answered(question: proto::Question, answers: &impl Answers) -> Vec<proto::Answer> {
    let id = question.id;
    let result = match question.ask {
        Some(asked) => answers.tell(asked).await,
        None => Err("this release does not answer that".to_owned()),
    };
    let text = result.and_then(|json| serde_json::to_vec(&json).map_err(|e| e.to_string()));
    match text {
        Ok(json) => {
            let last = json.len().saturating_sub(1) / PART_BYTES;
            let part = |(index, part): (usize, &[u8])| {
                let content = Some(Content::Json(part.to_vec().into()));
                proto::Answer { id, content, more: index < last }
            };
            json.chunks(PART_BYTES).enumerate().map(part).collect()
        }
        Err(error) => {
            vec![proto::Answer { id, content: Some(Content::Error(error)), more: false }]
        }
    }
}

/// The first message of a sidecar.
#[must_use]
pub fn hello(mesh: &MeshSettings, role: Role, address: IpAddr, instance: u64) -> proto::Hello {
    proto::Hello {
        node_id: mesh.node_id(role, address),
        namespace: mesh.workload.namespace.clone(),
        name: mesh.workload.name.clone(),
        labels: mesh.labels.0.clone(),
        service_account: mesh.service_account.clone(),
        address: address.to_string(),
        instance: format!("{instance:016x}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        registration: None,
    }
}

/// What a workload offers. Where inbound ports are mapped, callers are sent to the mapped ones.
#[must_use]
pub fn registration(service: &ServiceRegistration, inbound: &[InboundPort]) -> proto::Registration {
    let port = |port: &crate::settings::ServicePort| {
        let application = port.application.get();
        let mapped = inbound.iter().find(|inbound| inbound.application == application);
        proto::Port {
            name: port.name.clone(),
            number: port.number.get().into(),
            app_port: application.into(),
            listen_port: mapped.map_or(0, |mapped| mapped.listen.port().into()),
            protocol: String::new(),
        }
    };
    proto::Registration {
        service: service.host.clone(),
        ports: service.ports.iter().map(port).collect(),
        ..proto::Registration::default()
    }
}

#[cfg(test)]
mod tests {
    use tulle_runtime::drain::driver::Drainer;

    use super::*;

    fn agent(condition: Condition) -> (Agent, watch::Sender<Condition>) {
        let (tell, told) = watch::channel(condition);
        let hello = proto::Hello {
            registration: Some(proto::Registration::default()),
            ..proto::Hello::default()
        };
        let address = "127.0.0.1:1".parse().expect("an address");
        let (_, drain) = Drainer::new(Vec::new());
        (Agent::new(address, hello, told, drain), tell)
    }

    #[test]
    fn whoever_drains_says_so() {
        let (agent, tell) = agent(Condition::Ready);
        tell.send_replace(Condition::Draining);
        let (up, mut queue) = mpsc::channel(1);
        agent.say_condition(&up).expect("room");
        let said = queue.try_recv().expect("said").message;
        assert!(matches!(said, Some(Up::Draining(_))), "{said:?}");
    }

    #[test]
    fn who_is_found_again_is_looked_for_anew() {
        let (mut search, begun) = (Search::default(), Instant::now());
        assert!(!search.is_over(begun));
        assert!(!search.is_over(begun + SEARCH_TIME / 2));
        search.found();
        assert!(!search.is_over(begun + SEARCH_TIME), "nobody looked since");
        assert!(search.is_over(begun + 2 * SEARCH_TIME));
    }

    #[tokio::test]
    async fn long_answers_come_in_parts() {
        struct Long;
        impl Answers for Long {
            async fn tell(&self, asked: Ask) -> Result<Value, String> {
                match asked {
                    Ask::Stats(_) => Ok("x".repeat(2 * PART_BYTES).into()),
                    _ => Err("no".to_owned()),
                }
            }
        }
        let question = |ask| proto::Question { id: 7, ask: Some(ask) };
        let parts = answered(question(Ask::Stats(Default::default())), &Long).await;
        let more: Vec<_> = parts.iter().map(|part| (part.id, part.more)).collect();
        assert_eq!(more, [(7, true), (7, true), (7, false)]);
        let parts = answered(question(Ask::Drain(Default::default())), &Long).await;
        assert_eq!(parts[0].content, Some(Content::Error("no".to_owned())));
    }
}
