//! The xDS client of this proxy: what asks, whom it asks, and what becomes of the answers.
//!
//! The loop is that of [`tulle_xds::driver::client`]. Here are its two ends: [`server`] opens
//! connections, [`learner`] decodes what comes and puts it into the [`Configuration`]. It runs on
//! the control thread; names that workers use come in over a queue.

pub mod flood;
pub mod held;
pub mod learner;
pub mod node;
pub mod saved;
pub mod server;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tulle_xds::driver::client::Client;
use tulle_xds::driver::variant::Variant;
use tulle_xds::fields::UnknownFields;
use tulle_xds::proto::envoy::config::core::v3 as core;
use tulle_xds::session::delta_client::DeltaClient;
use tulle_xds::session::message::{Name, ResourceType};
use tulle_xds::session::on_demand::OnDemand;
use tulle_xds::session::sotw_client::SotwClient;

use crate::configuration::Configuration;
use crate::discovery::held::Held;
use crate::discovery::learner::{Learner, Progress};
use crate::discovery::saved::SavedState;
use crate::discovery::server::Server;
use crate::metrics::discovery::DiscoverySeries;
use crate::store::refused::Refused;
use crate::upstream::dns::Early;

/// What a process learns and from whom.
#[derive(Debug)]
pub struct Discovery {
    /// Who answers.
    pub server: Server,
    /// Who this proxy is.
    pub node: core::Node,
    /// What is asked for.
    pub session: Session,
    /// Where last-good resources are kept.
    pub state: Option<SavedState>,
    /// What becomes of resources with fields that are not known.
    pub unknown: UnknownFields,
}

/// A session in one of the two variants of the protocol.
#[derive(Debug)]
pub enum Session {
    /// Incremental.
    Delta(Box<OnDemand<DeltaClient, Held>>),
    /// State of the world.
    Sotw(Box<OnDemand<SotwClient, Held>>),
}

impl Session {
    /// Asks for what binds on this node, and for the rest when it is needed; forgets what nobody
    /// used for as long as `unused`.
    #[must_use]
    pub fn on_demand(seed: u64, unused: Duration, now: Instant) -> Self {
        let mut session = OnDemand::new(DeltaClient::new(seed).forgetting_after(unused));
        session.subscribe_wildcard(ResourceType::Listener, false, now);
        Self::Delta(Box::new(session))
    }
}

impl Discovery {
    /// The same, for a proxy that lets listeners drain for so long.
    #[must_use]
    pub fn with_drains_of(mut self, drain_time: Duration) -> Self {
        match &mut self.session {
            Session::Delta(session) => session.keep_for_drains(drain_time),
            Session::Sotw(session) => session.keep_for_drains(drain_time),
        }
        self
    }
}

/// What is put where: the far ends of a running [`Discovery`].
#[derive(Debug)]
pub struct Outcome {
    /// Where resources are put.
    pub configuration: Rc<RefCell<Configuration>>,
    /// Where clusters wait until their names are resolved.
    pub early: Rc<Early>,
    /// Where workers hear of names that are not asked for.
    pub refused: Refused,
    /// Where it is said how far the first configuration is.
    pub progress: Rc<Progress>,
    /// Where it is counted.
    pub series: DiscoverySeries,
}

impl Discovery {
    /// Asks and learns until nobody can use a name any more.
    pub async fn run(self, outcome: Outcome, used: mpsc::Receiver<Name>) {
        let Self { server, node, session, state, unknown } = self;
        let mut learner = Learner::new(outcome, server.to_string(), state, unknown);
        match session {
            Session::Delta(mut session) => {
                learner.restore(&mut session, Instant::now());
                follow(*session, learner, node, server, used).await;
            }
            Session::Sotw(session) => follow(*session, learner, node, server, used).await,
        }
    }
}

async fn follow<V: Variant>(
    session: OnDemand<V, Held>,
    application: Learner,
    node: core::Node,
    server: Server,
    used: mpsc::Receiver<Name>,
) {
    Client { node, session, application }.run(server, used).await;
}
