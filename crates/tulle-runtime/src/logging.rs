//! What the process says on stderr: one event a line, as text or JSON, its level changeable while
//! it runs.
//!
//! Lines go through a [`Sink`](crate::sink::Sink): a full stderr never stops a worker, it costs
//! lines, which are counted.

use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::sink::SharedQueue;

/// Most targets that have a level of their own.
pub const MAX_TARGETS: usize = 64;

/// How much is said. The names are Envoy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Off,
    /// What broke; Envoy's `critical` too.
    Error,
    /// What will break if nobody looks.
    Warning,
    /// What changed.
    #[default]
    Info,
    /// What was decided.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Every level, quietest first.
    pub const ALL: [Self; 6] =
        [Self::Off, Self::Error, Self::Warning, Self::Info, Self::Debug, Self::Trace];

    /// Envoy's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    const fn filter(self) -> LevelFilter {
        match self {
            Self::Off => LevelFilter::OFF,
            Self::Error => LevelFilter::ERROR,
            Self::Warning => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let alias = match text {
            "warn" => "warning",
            "critical" => "error",
            other => other,
        };
        let found = Self::ALL.into_iter().find(|level| level.as_str() == alias);
        found.ok_or_else(|| {
            format!("{text:?} is no level; write trace, debug, info, warning, error or off")
        })
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("write text or json; patterns are not supported".to_owned()),
        }
    }
}

/// Why a change of levels was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LevelError {
    /// Too many targets.
    #[error("at most {MAX_TARGETS} targets can have a level of their own")]
    TooMany,
    /// The log is gone.
    #[error("the log has ended")]
    Ended,
}

/// The levels in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of everything without one of its own.
    pub default: Level,
    /// Of modules, by path (`tulle_proxy::http`); it holds for the modules below too.
    pub targets: Vec<(String, Level)>,
}

/// Changes the levels while the process runs.
#[derive(Clone, Debug)]
pub struct LogControl {
    filter: reload::Handle<Targets, Registry>,
    levels: Arc<Mutex<Levels>>,
}

impl LogControl {
    /// The levels in force.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the level of everything.
    ///
    /// # Errors
    /// The log has ended.
    pub fn set_all(&self, level: Level) -> Result<(), LevelError> {
        self.change(|levels| {
            *levels = Levels { default: level, targets: Vec::new() };
            Ok(())
        })
    }

    /// Sets the level of one module and those below it.
    ///
    /// # Errors
    /// Too many have one, or the log has ended.
    pub fn set_target(&self, target: &str, level: Level) -> Result<(), LevelError> {
        self.change(|levels| {
            levels.targets.retain(|(known, _)| known != target);
            if levels.targets.len() >= MAX_TARGETS {
                return Err(LevelError::TooMany);
            }
            levels.targets.push((target.to_owned(), level));
            Ok(())
        })
    }

    fn change(
        &self,
        edit: impl FnOnce(&mut Levels) -> Result<(), LevelError>,
    ) -> Result<(), LevelError> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = levels.clone();
        edit(&mut next)?;
        self.filter.reload(filter_of(&next)).map_err(|_| LevelError::Ended)?;
        *levels = next;
        Ok(())
    }
}

fn filter_of(levels: &Levels) -> Targets {
    let targets = levels.targets.iter().map(|(target, level)| (target.clone(), level.filter()));
    Targets::new().with_default(levels.default.filter()).with_targets(targets)
}

/// Makes `queue` the log of this process, once.
///
/// # Errors
/// The process has a log already.
pub fn install(
    level: Level,
    format: Format,
    queue: SharedQueue,
) -> Result<LogControl, tracing_subscriber::util::TryInitError> {
    let levels = Levels { default: level, targets: Vec::new() };
    let (filter, handle) = reload::Layer::new(filter_of(&levels));
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Lines(queue));
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        Format::Text => registry.with(lines).try_init()?,
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
    }
    Ok(LogControl { filter: handle, levels: Arc::new(Mutex::new(levels)) })
}

/// Hands whole lines to the queue.
struct Lines(SharedQueue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(&self.0)
    }
}

struct Line<'a>(&'a SharedQueue);

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The formatter writes each event with one call.
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_envoys_names() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
        }
        assert_eq!("warn".parse(), Ok(Level::Warning));
        assert_eq!("critical".parse(), Ok(Level::Error));
        assert!("loud".parse::<Level>().is_err_and(|error| error.contains("\"loud\"")));
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("[%v]".parse::<Format>().is_err());
    }
}
