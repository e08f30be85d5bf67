//! Carries out what [`Drain`] decides: on the control thread, with the real clock.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::load::LoadReader;
use super::{Action, Drain, Event, Phase, Plan, View};

/// How often the load is looked at while draining.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Events that may wait for the driver.
const MAX_EVENTS: usize = 16;

/// Runs one drain.
#[derive(Debug)]
pub struct Drainer {
    drain: Drain,
    readers: Vec<LoadReader>,
    events: mpsc::Receiver<Event>,
    views: watch::Sender<View>,
}

/// Begins a drain and watches it, from anywhere.
#[derive(Clone, Debug)]
pub struct DrainHandle {
    events: mpsc::Sender<Event>,
    views: watch::Receiver<View>,
}

impl DrainHandle {
    /// Asks for the end. Returns at once; a request beyond 16 unread ones changes nothing.
    pub fn begin(&self, plan: Plan) {
        let _ = self.events.try_send(Event::Begin(plan));
    }

    /// Says that the registration is withdrawn.
    pub fn withdrawn(&self) {
        let _ = self.events.try_send(Event::Withdrawn);
    }

    /// Says that there is nobody to withdraw the registration.
    pub fn unheard(&self) {
        let _ = self.events.try_send(Event::Unheard);
    }

    /// The view now.
    #[must_use]
    pub fn view(&self) -> View {
        *self.views.borrow()
    }

    /// A receiver of each new view, for one worker.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }

    /// Waits until the drain has reached at least `phase`, or the driver is gone.
    pub async fn reached(&self, phase: Phase) {
        let mut views = self.views.clone();
        let _ = views.wait_for(|view| view.phase >= phase).await;
    }
}

impl Drainer {
    /// A drain over everything that `readers` count.
    #[must_use]
    pub fn new(readers: Vec<LoadReader>) -> (Self, DrainHandle) {
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let (views, receiver) = watch::channel(View::SERVING);
        let handle = DrainHandle { events: sender, views: receiver };
        (Self { drain: Drain::default(), readers, events, views }, handle)
    }

    /// Serves until the drain is done. `act` is told what else is to be done: everything but
    /// [`Action::Publish`], in order. Returns too when every handle is gone before a beginning.
    pub async fn run(mut self, mut act: impl FnMut(Action)) {
        while self.drain.phase() != Phase::Done {
            let draining = self.drain.phase() != Phase::Serving;
            let event = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => event,
                    None if !draining => return,
                    None => {
                        tokio::time::sleep(LOOK_INTERVAL).await;
                        Event::Tick
                    }
                },
                () = tokio::time::sleep(LOOK_INTERVAL), if draining => Event::Tick,
            };
            let load = Event::Load(LoadReader::sum(&self.readers));
            // The load first: without it a beginning would see nobody there and leave at once.
            for event in [load, event] {
                for action in self.drain.handle(event, Instant::now()) {
                    match action {
                        Action::Publish(view) => drop(self.views.send_replace(view)),
                        other => act(other),
                    }
                }
            }
        }
        self.views.send_replace(self.drain.view());
    }
}
