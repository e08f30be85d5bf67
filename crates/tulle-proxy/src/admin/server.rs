//! `/server_info`, in Envoy's shape.

use serde_json::{Value, json};
use tulle_runtime::drain::{Phase, Strategy};

use super::Controls;
use crate::settings::{Mode, Settings};

/// The state of the process, by Envoy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Live,
    Draining,
    Initializing,
}

impl State {
    pub(super) fn of(controls: &Controls) -> Self {
        if controls.drain.view().phase != Phase::Serving {
            Self::Draining
        } else if controls.readiness.is_ready() {
            Self::Live
        } else {
            Self::Initializing
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::Initializing => "INITIALIZING",
        }
    }
}

pub(super) fn view(controls: &Controls, node: Value) -> Value {
    let uptime = format!("{}s", controls.started.elapsed().as_secs());
    json!({
        "version": concat!("tulle-proxy/", env!("CARGO_PKG_VERSION")),
        "state": State::of(controls).as_str(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": options(&controls.settings),
        "command_line": controls.settings.process().command_line,
        "not_ready": controls.readiness.reasons(),
        "node": node,
    })
}

fn options(settings: &Settings) -> Value {
    let process = settings.process();
    let mut options = json!({
        "concurrency": process.concurrency.get(),
        "log_level": process.log_level.as_str(),
        "drain_time": format!("{}s", process.drain_time.as_secs()),
        "drain_strategy": match process.drain_strategy {
            Strategy::Gradual => "Gradual",
            Strategy::Immediate => "Immediate",
        },
        "reject_unknown_dynamic_fields": process.reject_unknown_dynamic_fields,
        "disable_hot_restart": true,
    });
    if let (Settings::Envoy(envoy), Some(map)) = (settings, options.as_object_mut()) {
        let path = envoy.bootstrap.path.as_ref().map(|path| path.display().to_string());
        let mode = match envoy.mode {
            Mode::Serve => "Serve",
            Mode::Validate => "Validate",
        };
        map.extend([
            ("config_path".to_owned(), path.unwrap_or_default().into()),
            ("config_yaml".to_owned(), envoy.bootstrap.yaml.clone().unwrap_or_default().into()),
            ("service_node".to_owned(), envoy.service_node.clone().unwrap_or_default().into()),
            (
                "service_cluster".to_owned(),
                envoy.service_cluster.clone().unwrap_or_default().into(),
            ),
            ("mode".to_owned(), mode.into()),
        ]);
    }
    options
}
