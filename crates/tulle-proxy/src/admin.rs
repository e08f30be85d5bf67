//! What operators can ask a proxy, and have it do: Envoy's admin paths, as far as what they show
//! exists here.
//!
//! [`Admin`] is the closed set of paths; [`Inside`] is what it sees of the running process.

pub mod clusters;
pub mod config_dump;
mod logging;
mod server;

use std::fmt::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::StatusCode;
use serde_json::Value;
use tulle_model::address::EndpointAddress;
use tulle_model::lookup::Needed;
use tulle_model::name::{ClusterName, ListenerName};
use tulle_model::snapshot::Snapshot;
use tulle_runtime::admin::{Answer, Api, Methods, Question};
use tulle_runtime::drain::Plan;
use tulle_runtime::drain::driver::DrainHandle;
use tulle_runtime::logging::LogControl;
use tulle_runtime::readiness::Readiness;
use tulle_runtime::telemetry::Registry;

use tulle_xds::proto::tulle::v1::question::Ask;

use crate::agent::Answers;
use crate::configuration::ledger::Refusal;
use crate::settings::Settings;

pub use config_dump::DumpError;

/// What the admin server sees of the running process. All on the control thread.
pub trait Inside {
    /// The configuration in force.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// Where a resource came from.
    fn provenance(&self, resource: &Needed) -> Provenance;

    /// Resources whose newest version is refused.
    fn refused(&self) -> Vec<(Needed, Refusal)>;

    /// The bootstrap as protobuf JSON, if there is one.
    fn bootstrap(&self) -> Option<Value>;

    /// The xDS node of this proxy: id, cluster, metadata.
    fn node(&self) -> Value;

    /// Every bound listener with its real address.
    fn listeners(&self) -> Vec<(ListenerName, SocketAddr)>;

    /// What is counted at an endpoint, over all workers.
    fn endpoint(&self, cluster: &ClusterName, endpoint: &EndpointAddress) -> EndpointNumbers;

    /// Called before endpoints are read: brings their numbers up to date.
    fn count_endpoints(&self) -> Pin<Box<dyn Future<Output = ()> + '_>>;

    /// Called before metrics are read: brings those of the process up to date.
    fn refresh_metrics(&self);
}

/// Where a resource came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// From the bootstrap, not from a control plane.
    pub is_static: bool,
    /// The version that the control plane gave it; empty for none.
    pub version: Arc<str>,
    /// When it was applied.
    pub updated: SystemTime,
}

/// What is counted at one endpoint; `None` is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointNumbers {
    /// Connections open.
    pub connections: Option<u64>,
    /// Requests under way.
    pub active_requests: Option<u64>,
    /// Left out by outlier detection.
    pub is_ejected: bool,
    /// Did not connect lately, or left out for another reason of ours.
    pub is_failing: bool,
}

/// What the admin server acts through.
#[derive(Debug)]
pub struct Controls {
    /// What the process was told.
    pub settings: Settings,
    /// Metrics.
    pub registry: Registry,
    /// Levels of the log; `None` in tests that have none.
    pub log: Option<LogControl>,
    /// Ends listeners.
    pub drain: DrainHandle,
    /// Ready or not.
    pub readiness: Readiness,
    /// Ends the process, as SIGTERM does.
    pub shutdown: Arc<tokio::sync::Notify>,
    /// When the process began.
    pub started: Instant,
}

/// The admin server's answers.
pub struct Admin {
    controls: Controls,
    inside: Rc<dyn Inside>,
}

/// Everything that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/ready`.
    Ready,
    /// `/stats/prometheus`.
    Prometheus,
    /// `/config_dump`.
    ConfigDump,
    /// `/clusters`.
    Clusters,
    /// `/listeners`.
    Listeners,
    /// `/server_info`.
    Server,
    /// `/logging`.
    Logging,
    /// `/drain_listeners`.
    DrainListeners,
    /// `/quitquitquit`.
    Quit,
    /// `/help` and `/`.
    Help,
}

const ROUTES: &[(&str, Methods, Route, &str)] = &[
    ("/", Methods::Get, Route::Help, "this list"),
    ("/clusters", Methods::Get, Route::Clusters, "clusters and endpoints; ?format=json"),
    (
        "/config_dump",
        Methods::Get,
        Route::ConfigDump,
        "the configuration in force; ?include_eds, ?resource=FIELD",
    ),
    (
        "/drain_listeners",
        Methods::Post,
        Route::DrainListeners,
        "(POST) stop accepting; ?graceful after the drain time",
    ),
    ("/help", Methods::Get, Route::Help, "this list"),
    ("/listeners", Methods::Get, Route::Listeners, "listeners and their addresses"),
    (
        "/logging",
        Methods::GetOrPost,
        Route::Logging,
        "levels of the log; (POST) ?level=LEVEL, ?paths=MODULE:LEVEL,...",
    ),
    (
        "/quitquitquit",
        Methods::Post,
        Route::Quit,
        "(POST) drain and exit; needs --admin-allow shutdown",
    ),
    ("/ready", Methods::Get, Route::Ready, "200 while traffic may be sent here, else 503"),
    ("/server_info", Methods::Get, Route::Server, "version, state, command line"),
    ("/stats/prometheus", Methods::Get, Route::Prometheus, "metrics"),
];

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("controls", &self.controls).finish_non_exhaustive()
    }
}

impl Admin {
    /// Answers about the process behind `inside`.
    #[must_use]
    pub fn new(controls: Controls, inside: Rc<dyn Inside>) -> Self {
        Self { controls, inside }
    }

    fn ready(&self) -> Answer {
        let state = server::State::of(&self.controls);
        let mut text = format!("{}\n", state.as_str());
        for reason in self.controls.readiness.reasons() {
            let _ = writeln!(text, "{reason}");
        }
        let ready = state == server::State::Live;
        Answer::of(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
    }

    fn listeners(&self) -> Answer {
        let mut listeners = self.inside.listeners();
        listeners.sort();
        let line = |(name, address): &(ListenerName, SocketAddr)| format!("{name}::{address}\n");
        Answer::text(listeners.iter().map(line).collect::<String>())
    }

    fn config_dump(&self, question: &Question) -> Answer {
        let unsupported = ["mask", "name_regex"].into_iter().find(|name| {
            let given = question.parameter(name);
            given.is_some_and(|value| !value.is_empty())
        });
        if let Some(name) = unsupported {
            return bad(format!("{name} is not supported; use resource or include_eds\n"));
        }
        let dump = match question.parameter("resource") {
            Some(field) => config_dump::field(&*self.inside, field),
            None => {
                let with_endpoints = question.parameter("include_eds").is_some();
                config_dump::all(&*self.inside, with_endpoints)
            }
        };
        match dump {
            Ok(dump) => Answer::json(&dump),
            Err(error @ DumpError::NoSuchField { .. }) => {
                Answer::of(StatusCode::NOT_FOUND, format!("{error}\n"))
            }
            Err(error) => Answer::of(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn clusters(&self, question: &Question) -> Answer {
        let snapshot = self.inside.snapshot();
        match question.parameter("format") {
            None | Some("text") => Answer::text(clusters::text(&snapshot, &*self.inside)),
            Some("json") => Answer::json(&clusters::json(&snapshot, &*self.inside)),
            Some(_) => bad("format: use text or json\n"),
        }
    }

    fn drain_listeners(&self, question: &Question) -> Answer {
        let unsupported = ["inboundonly", "skip_exit"]
            .into_iter()
            .find(|name| question.parameter(name).is_some());
        if let Some(name) = unsupported {
            return bad(format!("{name} is not supported; all listeners drain\n"));
        }
        let process = self.controls.settings.process();
        self.controls.drain.begin(match question.parameter("graceful") {
            Some(_) => Plan::listeners(process.drain_time, process.drain_strategy),
            None => Plan::listeners_now(),
        });
        Answer::text("OK\n")
    }

    fn quit(&self) -> Answer {
        if !self.controls.settings.process().admin_may_shut_down {
            let text = "not allowed; start with --admin-allow shutdown, or send SIGTERM\n";
            return Answer::of(StatusCode::FORBIDDEN, text);
        }
        self.controls.shutdown.notify_one();
        Answer::text("OK\n")
    }
}

impl Answers for Admin {
    async fn tell(&self, asked: Ask) -> Result<Value, String> {
        match asked {
            Ask::ConfigDump(dump) => {
                let dump = config_dump::kind(&*self.inside, &dump.kind);
                dump.map_err(|error| error.to_string())
            }
            Ask::Stats(_) => {
                self.inside.refresh_metrics();
                let samples = self.controls.registry.samples().into_iter();
                Ok(samples.map(|(name, value)| (name, Value::from(value))).collect())
            }
            Ask::ServerInfo(_) => Ok(server::view(&self.controls, self.inside.node())),
            Ask::Clusters(_) => {
                self.inside.count_endpoints().await;
                Ok(clusters::json(&self.inside.snapshot(), &*self.inside))
            }
            Ask::Drain(_) => {
                let process = self.controls.settings.process();
                let plan = Plan::listeners(process.drain_time, process.drain_strategy);
                self.controls.drain.begin(plan);
                Ok(Value::Object(serde_json::Map::new()))
            }
        }
    }
}

impl Api for Admin {
    type Route = Route;

    fn route(&self, path: &str) -> Option<(Methods, Route)> {
        let found = ROUTES.iter().find(|(known, ..)| *known == path);
        found.map(|(_, methods, route, _)| (*methods, *route))
    }

    async fn answer(&self, route: Route, question: Question) -> Answer {
        match route {
            Route::Ready => self.ready(),
            Route::Prometheus => {
                self.inside.refresh_metrics();
                Answer::prometheus(self.controls.registry.render())
            }
            Route::ConfigDump => self.config_dump(&question),
            Route::Clusters => {
                self.inside.count_endpoints().await;
                self.clusters(&question)
            }
            Route::Listeners => self.listeners(),
            Route::Server => Answer::json(&server::view(&self.controls, self.inside.node())),
            Route::Logging => logging::answer(self.controls.log.as_ref(), &question),
            Route::DrainListeners => self.drain_listeners(&question),
            Route::Quit => self.quit(),
            Route::Help => Answer::text(self.help()),
        }
    }

    fn help(&self) -> String {
        let mut text = "admin commands are:\n".to_owned();
        for (path, _, _, help) in ROUTES {
            let _ = writeln!(text, "  {path}: {help}");
        }
        text
    }
}

/// Only metrics, for `--metrics ADDR`, which others than operators can reach.
pub struct Metrics {
    /// What is scraped.
    pub registry: Registry,
    /// Brings metrics of the process up to date.
    pub inside: Rc<dyn Inside>,
}

impl Api for Metrics {
    type Route = ();

    fn route(&self, path: &str) -> Option<(Methods, ())> {
        matches!(path, "/stats/prometheus" | "/metrics").then_some((Methods::Get, ()))
    }

    async fn answer(&self, (): (), _: Question) -> Answer {
        self.inside.refresh_metrics();
        Answer::prometheus(self.registry.render())
    }

    fn help(&self) -> String {
        "only /stats/prometheus is served here\n".to_owned()
    }
}

fn bad(text: impl Into<String>) -> Answer {
    Answer::of(StatusCode::BAD_REQUEST, text.into())
}

#[cfg(test)]
mod tests;
