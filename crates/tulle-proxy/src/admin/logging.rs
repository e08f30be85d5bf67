//! `/logging`: shows the levels of the log, changes them by POST.

use std::fmt::Write;

use http::{Method, StatusCode};
use tulle_runtime::admin::{Answer, Question};
use tulle_runtime::logging::{Level, LevelError, LogControl};

use super::bad;

const USAGE: &str = "usage: /logging?<module>=<level> (change one module and those below it)
usage: /logging?paths=<module>:<level>,<module>:<level>,... (change several)
usage: /logging?level=<level> (change all)
levels: trace debug info warning error critical off
";

pub(super) fn answer(log: Option<&LogControl>, question: &Question) -> Answer {
    let Some(log) = log else {
        return Answer::of(StatusCode::SERVICE_UNAVAILABLE, "this process has no log\n");
    };
    if question.parameters.is_empty() {
        return Answer::text(levels(log));
    }
    if question.method != Method::POST {
        let text = "levels are changed by POST\n";
        return Answer::of(StatusCode::METHOD_NOT_ALLOWED, text);
    }
    match change(log, &question.parameters) {
        Ok(()) => Answer::text(levels(log)),
        Err(error) => bad(format!("error: {error}\n\n{USAGE}")),
    }
}

fn levels(log: &LogControl) -> String {
    let levels = log.levels();
    let mut text = format!("active loggers:\n  all: {}\n", levels.default.as_str());
    for (module, level) in levels.targets {
        let _ = writeln!(text, "  {module}: {}", level.as_str());
    }
    text
}

/// Everything is read before anything is changed.
fn change(log: &LogControl, parameters: &[(String, String)]) -> Result<(), String> {
    let mut all = None;
    let mut modules = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "level" => all = Some(value.parse::<Level>()?),
            "paths" => {
                for path in value.split(',').filter(|path| !path.is_empty()) {
                    let (module, level) = path
                        .rsplit_once(':')
                        .ok_or_else(|| format!("{path:?} is not <module>:<level>"))?;
                    modules.push((module.to_owned(), level.parse()?));
                }
            }
            module => modules.push((module.to_owned(), value.parse()?)),
        }
    }
    let said = |error: LevelError| error.to_string();
    if let Some(level) = all {
        log.set_all(level).map_err(said)?;
    }
    for (module, level) in modules {
        log.set_target(&module, level).map_err(said)?;
    }
    Ok(())
}
