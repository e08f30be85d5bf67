//! A name and an on-demand session under a virtual clock: what is in use stays, what is not goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep;
use tulle_model::listener::Listener;
use tulle_model::resource::Resource;
use tulle_model::snapshot::{Change, Snapshot};
use tulle_xds::session::client::{Answer, Delivery};
use tulle_xds::session::delta_client::DeltaClient;
use tulle_xds::session::message::{DeltaResponse, Resource as Encoded, ResourceType};
use tulle_xds::session::on_demand::{Input, OnDemand, Output};

use super::*;
use crate::discovery::held::Held;
use crate::store::{ASK_QUEUE, Store};

const NAME: &str = "10.9.0.7:8080";

/// A session that asked for [`NAME`] and has it, fed from a store.
struct Side {
    session: OnDemand<DeltaClient, Held>,
    store: Rc<Store>,
    asked: mpsc::Receiver<Name>,
    began: (Instant, tokio::time::Instant),
}

impl Side {
    fn new() -> Side {
        let (asker, asked) = mpsc::channel(ASK_QUEUE);
        let listener = Resource::Listener(Arc::new(Listener::new(NAME.into())));
        let put = Change::Put(listener.clone(), Vec::new());
        let store = Store::new(&Arc::new(Snapshot::new(true).with([put])), Some(asker));
        let began = (Instant::now(), tokio::time::Instant::now());
        let session = OnDemand::new(DeltaClient::new(1));
        let mut side = Side { session, store: Rc::new(store), asked, began };
        side.feed(Input::Connected);
        side.feed(Input::Use(vec![NAME.into()]));
        let encoded = Encoded {
            name: NAME.into(),
            aliases: Vec::new(),
            version: "1".into(),
            body: Some(Default::default()),
        };
        let outputs = side.handle(Input::Response(DeltaResponse {
            rtype: ResourceType::Listener,
            nonce: "1".into(),
            resources: vec![encoded],
            removed: Vec::new(),
            system_version: "1".into(),
        }));
        for output in outputs {
            if let Output::Decode(Delivery { id, rtype, .. }) = output {
                let accepted = vec![(NAME.into(), Held::own(listener.clone()).1)];
                side.feed(Input::Decoded { delivery: id, rtype, accepted, rejected: Vec::new() });
            }
        }
        assert!(side.is_known());
        side
    }

    fn handle(
        &mut self,
        input: Input<DeltaResponse, Held>,
    ) -> Vec<Output<tulle_xds::session::message::DeltaRequest, Held>> {
        self.session.handle(input, self.began.0 + self.began.1.elapsed())
    }

    fn feed(&mut self, input: Input<DeltaResponse, Held>) {
        self.handle(input);
    }

    fn is_known(&self) -> bool {
        matches!(self.session.lookup(NAME), Answer::Present(_))
    }

    /// Lets seconds pass, as the driver and the worker do.
    async fn wait(&mut self, seconds: u64) {
        let store = Rc::clone(&self.store);
        let repeating = store.repeat_uses();
        tokio::pin!(repeating);
        for _ in 0..seconds {
            tokio::select! {
                biased;
                () = &mut repeating => {}
                () = sleep(Duration::from_secs(1)) => {}
            }
            while let Ok(name) = self.asked.try_recv() {
                self.feed(Input::Use(vec![name]));
            }
            self.feed(Input::Tick);
        }
    }
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_name_stays_known_while_one_connection_uses_it() {
    let mut side = Side::new();
    let connection = side.store.use_name(NAME).expect("it is there");
    side.wait(3_600).await;
    assert!(side.is_known(), "an hour later it still is");
    drop(connection);
    side.wait(240).await;
    assert!(side.is_known(), "not five minutes unused");
    side.wait(200).await;
    assert!(!side.is_known(), "nobody used it for five minutes");
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn a_name_stays_known_while_requests_come() {
    let mut side = Side::new();
    for _ in 0..20 {
        drop(side.store.use_name(NAME));
        side.wait(200).await;
    }
    assert!(side.is_known());
}

#[test]
fn only_names_of_listeners_are_kept_and_only_while_they_are_used() {
    let (asker, _asked) = mpsc::channel(1);
    let store = Store::new(&Arc::new(Snapshot::new(true)), Some(asker));
    assert!(store.use_name("invented:80").is_none());
    let uses = Uses::default();
    let held = uses.touch("a");
    drop(uses.touch("b"));
    assert_eq!(uses.in_use().len(), 2);
    assert_eq!(uses.in_use(), ["a".into()]);
    drop(held);
    assert_eq!(uses.in_use().len(), 0);
    assert_eq!(uses.0.borrow().len(), 0);
}
