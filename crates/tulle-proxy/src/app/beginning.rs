//! When listening begins: in Envoy's place not before the first configuration is complete.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::watch;

use crate::configuration::Configuration;
use crate::discovery::learner::Progress;

/// What is waited for.
#[derive(Debug)]
pub struct Beginning {
    /// The first configuration, where it comes from a server.
    pub discovered: Option<Rc<Progress>>,
    /// The newest generation whose names were all asked for once.
    pub resolved: watch::Receiver<u64>,
}

impl Beginning {
    /// Listens when everything is there; then never comes back.
    ///
    /// # Errors
    /// What a listener needs is not to be had.
    pub async fn listen(mut self, configuration: &RefCell<Configuration>) -> anyhow::Result<()> {
        if configuration.borrow().is_listening() {
            return std::future::pending().await;
        }
        if let Some(discovered) = &self.discovered {
            discovered.begun().await;
        }
        let generation = configuration.borrow().snapshot().generation();
        // Who resolves lives as long as the process.
        if self.resolved.wait_for(|resolved| *resolved >= generation).await.is_ok() {
            let errors = configuration.borrow_mut().listen();
            if let Some(error) = errors.into_iter().next() {
                return Err(error.into());
            }
        }
        std::future::pending().await
    }
}
