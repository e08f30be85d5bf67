//! The agent stream: registering, readiness, draining, questions.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use tulle_xds::proto::tulle::v1 as proto;
use tulle_xds::session::message::ResourceType;

use proto::{agent_down::Message as Down, agent_up::Message as Up};

use crate::client::Client;
use crate::scene::{Control, DEADLINE, Place};

const NAME: &str = "outbound|80||order.shop";

pub struct Agent {
    send: mpsc::Sender<proto::AgentUp>,
    pub messages: Streaming<proto::AgentDown>,
}

pub fn hello(name: &str, instance: &str) -> proto::Hello {
    proto::Hello {
        node_id: format!("sidecar~10.0.0.1~{name}.shop~shop.svc.cluster.local"),
        namespace: "shop".into(),
        name: name.into(),
        address: "10.0.0.1".into(),
        instance: instance.into(),
        version: "0.1.0".into(),
        registration: Some(proto::Registration {
            service: "order.shop".into(),
            ports: vec![proto::Port {
                name: "http".into(),
                number: 80,
                app_port: 8080,
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

impl Agent {
    pub async fn connect(control: &Control, hello: proto::Hello) -> Self {
        let agent = Self::open(control.channel().await).await;
        agent.say(Up::Hello(hello)).await;
        agent
    }

    /// A stream on which nothing was said.
    pub async fn open(channel: Channel) -> Self {
        let (send, messages) = mpsc::channel(16);
        let mut client = proto::agent_client::AgentClient::new(channel);
        let messages = client.connect(ReceiverStream::new(messages)).await.expect("a stream");
        Self { send, messages: messages.into_inner() }
    }

    pub async fn say(&self, message: Up) {
        self.send.send(proto::AgentUp { message: Some(message) }).await.expect("open");
    }

    pub async fn ready(&self, ready: bool) {
        self.say(Up::Readiness(proto::Readiness { ready, reason: String::new() })).await;
    }

    pub async fn next(&mut self) -> Down {
        let message = tokio::time::timeout(DEADLINE, self.messages.message()).await;
        let message = message.expect("in time").expect("no failure").expect("not ended");
        message.message.expect("a message")
    }
}

#[tokio::test]
async fn a_workload_gets_traffic_when_ready_and_none_when_it_drains() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    client.fetch(ResourceType::Endpoints, NAME).await;

    let mut agent = Agent::connect(&control, hello("order-1", "a")).await;
    assert!(matches!(agent.next().await, Down::Registered(registered)
        if registered.lease_seconds == 10));
    assert!(!client.next().await.one().mentions("10.0.0.1"), "not ready yet");
    agent.ready(true).await;
    assert!(client.next().await.one().mentions("10.0.0.1"));

    agent.say(Up::Draining(proto::Draining { deadline_seconds: 5 })).await;
    assert!(matches!(agent.next().await, Down::Withdrawn(_)));
    let seen = client.next().await;
    assert!(seen.resources.iter().all(|resource| !resource.mentions("10.0.0.1")), "{seen:?}");
    control.stop().await;
}

/// A sidecar that drains while the control plane restarts: its callers are told, although the store
/// had kept it as ready, and it hears so only when those had time to come back.
#[tokio::test]
async fn who_drains_during_a_restart_is_withdrawn_before_it_is_told_so() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    client.fetch(ResourceType::Endpoints, NAME).await;
    let mut agent = Agent::connect(&control, hello("order-1", "a")).await;
    agent.next().await;
    client.next().await;
    agent.ready(true).await;
    assert!(client.next().await.one().mentions("10.0.0.1"));
    drop((agent, client));
    control.stop().await;

    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    let kept = client.fetch(ResourceType::Endpoints, NAME).await;
    assert!(kept.one().mentions("10.0.0.1"), "the store kept it");
    let begun = std::time::Instant::now();
    let mut agent = Agent::connect(&control, hello("order-1", "a")).await;
    agent.say(Up::Draining(proto::Draining { deadline_seconds: 0 })).await;
    assert!(matches!(agent.next().await, Down::Registered(_)));
    let seen = client.next().await;
    assert!(seen.resources.iter().all(|resource| !resource.mentions("10.0.0.1")), "{seen:?}");
    assert!(matches!(agent.next().await, Down::Withdrawn(_)));
    assert!(begun.elapsed().as_secs() >= 4, "callers need time: {:?}", begun.elapsed());
    control.stop().await;
}

#[tokio::test]
async fn a_registration_that_cannot_be_is_refused_and_the_stream_stays() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut bad = hello("order-1", "a");
    bad.registration.as_mut().expect("there").ports.clear();
    let mut agent = Agent::connect(&control, bad).await;
    let Down::Refused(refused) = agent.next().await else { panic!("not refused") };
    assert!(refused.reason.contains("at least one port"), "{refused:?}");
    agent.ready(true).await;
    control.wait("/api/v1/proxies/shop/order-1", |json| json[0]["agent"]["ready"] == true).await;
    control.stop().await;
}

#[tokio::test]
async fn a_newer_process_takes_over_and_the_older_is_told() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut older = Agent::connect(&control, hello("order-1", "a")).await;
    older.next().await;
    let mut newer = Agent::connect(&control, hello("order-1", "b")).await;
    assert!(matches!(newer.next().await, Down::Registered(_)));
    let Down::Refused(refused) = older.next().await else { panic!("not told") };
    assert!(refused.reason.contains("another process"), "{refused:?}");
    control.stop().await;
}

#[tokio::test]
async fn a_proxy_is_asked_what_it_holds() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let (status, body) = control.call("GET", "/api/v1/proxies/shop/order-1/config", "").await;
    assert_eq!((status, body.contains("not connected")), (404, true), "{body}");

    let mut agent = Agent::connect(&control, hello("order-1", "a")).await;
    agent.next().await;
    let answer = async {
        let Down::Question(question) = agent.next().await else { panic!("not asked") };
        let Some(proto::question::Ask::ConfigDump(dump)) = question.ask else { panic!("what?") };
        assert_eq!(dump.kind, "clusters");
        for (json, more) in [(&b"{\"clusters\":"[..], true), (&b"[]}"[..], false)] {
            let content = Some(proto::answer::Content::Json(json.into()));
            agent.say(Up::Answer(proto::Answer { id: question.id, content, more })).await;
        }
    };
    let path = "/api/v1/proxies/shop/order-1/config?kind=clusters";
    let ((status, body), ()) = tokio::join!(control.call("GET", path, ""), answer);
    assert_eq!((status, &*body), (200, "{\"clusters\":[]}"));
    let (status, body) =
        control.call("GET", "/api/v1/proxies/shop/order-1/config?kind=secret", "").await;
    assert_eq!((status, body.contains("no such kind")), (400, true), "{body}");
    control.stop().await;
}

#[tokio::test]
async fn the_status_shows_what_was_sent_and_what_was_said_to_it() {
    let place = Place::new(&[]);
    let control = Control::start(&place).await;
    let mut client = Client::connect(&control).await;
    client.fetch(ResourceType::Listener, "x.shop:80").await;
    let json = control
        .wait("/api/v1/proxies", |json| {
            json[0]["streams"][0]["types"]["listener"]["ackedGeneration"].as_u64() > Some(0)
        })
        .await;
    assert_eq!((&json[0]["name"], &json[0]["onDemand"]), (&"caller-1".into(), &true.into()));
    let sent = control.json("/api/v1/proxies/shop/caller-1/sent").await;
    assert_eq!(sent["listener"]["asked"], 1, "{sent}");
    let (status, metrics) = control.call("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("\ntulle_control_xds_streams 1\n"), "{metrics}");
    drop(client);
    control.wait("/api/v1/proxies", |json| json.as_array().is_some_and(Vec::is_empty)).await;
    control.stop().await;
}
