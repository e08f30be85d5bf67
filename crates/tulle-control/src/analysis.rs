//! Analysis: what is wrong between objects that are each fine alone. Runs beside publishing and
//! never in its way; what it finds goes to the log once and to the admin API as long as it holds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tulle_config::{Diagnostic, analyze};

use crate::ingest::objects::Configuration;
use crate::publish::Publisher;
use crate::stop::Stop;

/// Time between a change and its analysis; endpoints come and go faster than anybody reads.
pub const ANALYZE_EVERY: Duration = Duration::from_millis(250);

/// Analyses what is published.
pub struct Analysis {
    /// What is published.
    pub publisher: Arc<Publisher>,
    /// Says when a world was built, also one that changes nothing for any proxy: what is wrong
    /// with it may be just that.
    pub built: watch::Receiver<Option<u64>>,
    /// Where its objects stand.
    pub configuration: watch::Receiver<Arc<Configuration>>,
    /// What was found between objects.
    pub findings: watch::Sender<Arc<Vec<Diagnostic>>>,
}

impl Analysis {
    /// Analyses each newest world until `stop`.
    pub async fn run(mut self, stop: Stop) {
        self.built.mark_changed();
        loop {
            tokio::select! {
                changed = self.built.changed() => if changed.is_err() { return },
                () = stop.requested() => return,
            }
            // Whoever waits for the change goes first.
            tokio::select! {
                () = tokio::time::sleep(ANALYZE_EVERY) => {}
                () = stop.requested() => return,
            }
            self.built.mark_unchanged();
            self.analyze().await;
        }
    }

    async fn analyze(&self) {
        let world = self.publisher.world();
        let configuration = Arc::clone(&self.configuration.borrow());
        let found = tokio::task::spawn_blocking(move || {
            let findings = analyze::findings(&world).into_iter();
            let mut findings: Vec<_> =
                findings.map(|finding| finding.diagnostic(&configuration.sources)).collect();
            tulle_config::diagnostic::sort(&mut findings);
            findings
        });
        match found.await {
            Ok(findings) => self.publish(findings),
            Err(panic) => tracing::error!(%panic, "the configuration could not be analysed"),
        }
    }

    fn publish(&self, findings: Vec<Diagnostic>) {
        let text = |finding: &Diagnostic| finding.to_string();
        let known: BTreeSet<String> = self.findings.borrow().iter().map(text).collect();
        for finding in findings.iter().filter(|finding| !known.contains(&text(finding))) {
            log(finding);
        }
        self.findings.send_replace(Arc::new(findings));
    }
}

/// Says what was found, as loudly as it matters.
pub fn log(finding: &Diagnostic) {
    match finding.is_error() {
        true => tracing::error!("{finding}"),
        false => tracing::warn!("{finding}"),
    }
}
