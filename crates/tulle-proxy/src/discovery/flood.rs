//! Names that are not asked for because too many are new: those who wait are told at once, and the
//! log says it in a line now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tulle_xds::session::client::{AbsentReason, Answer};
use tulle_xds::session::message::Name;
use tulle_xds::session::on_demand::Change;

use crate::discovery::held::Held;
use crate::store::refused::Refused;

/// Shortest time between two lines in the log.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Refused names of one proxy.
#[derive(Debug)]
pub struct Flood {
    workers: Refused,
    /// Those that the log has not told of, and one of them.
    untold: u64,
    example: Option<Name>,
    logged_at: Option<Instant>,
}

impl Flood {
    /// None yet; these are told.
    #[must_use]
    pub fn told_to(workers: Refused) -> Self {
        Self { workers, untold: 0, example: None, logged_at: None }
    }

    /// Tells those who wait for a name that is refused. Returns how many names that are.
    pub fn tell(&mut self, told: &[Change<Held>]) -> u64 {
        let refused = Answer::Absent(AbsentReason::TooManyNewNames);
        let names = told.iter().filter_map(|told| match told {
            Change::Answered { name, answer } if *answer == refused => Some(name.clone()),
            Change::Answered { .. } | Change::Shown { .. } | Change::Hidden { .. } => None,
        });
        let names: Arc<[Name]> = names.collect();
        let count = names.len() as u64;
        if let Some(name) = names.last() {
            self.example = Some(name.clone());
            self.untold += count;
            // An error means that no worker is there any more.
            let _ = self.workers.send(names);
        }
        count
    }

    /// Writes a line if there is something to tell and the last one is long enough ago.
    pub fn log(&mut self) {
        let due = self.logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        let Some(example) = self.example.take_if(|_| due) else { return };
        tracing::warn!(
            names = self.untold,
            last = %example,
            "traffic asks for new names faster than the control plane is asked: some are refused"
        );
        (self.untold, self.logged_at) = (0, Some(Instant::now()));
    }
}
