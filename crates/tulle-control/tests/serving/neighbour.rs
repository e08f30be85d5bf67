//! Somebody who keeps to the rules while others do not.

use std::time::Duration;

use tokio::task::JoinSet;
use tulle_xds::proto::tulle::v1::agent_down::Message as Down;
use tulle_xds::session::message::ResourceType;

use crate::agent::{Agent, hello};
use crate::client::Client;
use crate::scene::Control;

const NAME: &str = "outbound|80||order.shop";

/// How often a workload says that it is there, as proxies do.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A workload that takes traffic.
pub struct Neighbour {
    _heartbeat: JoinSet<()>,
    pub client: Client,
}

impl Neighbour {
    pub async fn new(control: &Control) -> Self {
        let mut agent = Agent::connect(control, hello("order-1", "a")).await;
        assert!(matches!(agent.next().await, Down::Registered(_)));
        agent.ready(true).await;
        let mut client = Client::connect(control).await;
        let mut seen = client.fetch(ResourceType::Endpoints, NAME).await;
        while !seen.resources.iter().any(|resource| resource.mentions("10.0.0.1")) {
            seen = client.next().await;
        }
        let mut heartbeat = JoinSet::new();
        heartbeat.spawn(async move {
            let mut beats = tokio::time::interval(HEARTBEAT);
            loop {
                beats.tick().await;
                agent.ready(true).await;
            }
        });
        Self { _heartbeat: heartbeat, client }
    }

    /// It is registered as it was, alone, and its callers were told nothing.
    pub async fn check_unharmed(mut self, control: &Control) {
        let all = control.json("/api/v1/registry").await;
        assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
        assert_eq!((&all[0]["ready"], &all[0]["service"]), (&true.into(), &"order.shop".into()));
        // Whatever was told to this stream before comes before the answer to another name.
        let next = self.client.fetch(ResourceType::Cluster, NAME).await;
        assert_eq!(next.rtype, ResourceType::Cluster, "{next:?}");
    }
}
