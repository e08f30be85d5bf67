//! Stopping: one signal that every task can wait for, and none can miss.

use tokio::sync::watch;

/// Tells when it is time to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Says when it is time to stop; dropping it says so too.
#[derive(Debug)]
pub struct StopSource(watch::Sender<bool>);

impl StopSource {
    /// A source and what hears it.
    #[must_use]
    pub fn new() -> (Self, Stop) {
        let (send, receive) = watch::channel(false);
        (Self(send), Stop(receive))
    }

    /// It is time.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Ends when it is time to stop.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        // An error is a dropped source: nobody is left who could want anything.
        let _ = receiver.wait_for(|stop| *stop).await;
    }
}
