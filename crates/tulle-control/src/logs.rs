//! The log of the process: one line for each event, on stderr, never in anybody's way.

use std::time::{Duration, Instant};

use tulle_runtime::logging;
use tulle_runtime::sink::{Sink, Target};

use crate::settings::Serve;

/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log; without stderr there is none.
#[derive(Debug)]
pub struct Logs(Option<Sink>);

impl Logs {
    /// Starts the log as the command line asks.
    #[must_use]
    pub fn start(serve: &Serve) -> Self {
        let sink = Sink::open(Target::Stderr).ok();
        if let Some(sink) = &sink {
            // A second log in one process is a test that shares it; the first one stays.
            let _ = logging::install(serve.log_level, serve.log_format, sink.shared_queue());
        }
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
        Self(sink)
    }

    /// Writes what is left.
    pub fn finish(self) {
        if let Some(sink) = self.0 {
            sink.close(Instant::now() + LAST_LINES);
        }
    }
}
