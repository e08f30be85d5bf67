//! `tulle analyze`: what is wrong with configuration, without a control plane.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tulle_config::{Diagnostic, Severity};

use crate::files::{Mesh, Texts};
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  tulle analyze ./mesh
  tulle analyze new.yaml ./mesh -o json
  kubectl get virtualservices -A -o yaml | tulle analyze -

Exit code: 0 without errors (warnings are none), 1 with errors, 2 if nothing could be read.
What each code means: docs/reference/findings.md";

/// Say what is wrong with configuration, without touching anything.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Files and directories of YAML and JSON objects; `-` is standard input.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    mesh: Mesh,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// All findings, for programs.
#[derive(Serialize)]
struct Report<'a> {
    files: usize,
    errors: usize,
    warnings: usize,
    findings: &'a [Diagnostic],
}

/// Runs the verb.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    let texts = match Texts::read(&settings.paths) {
        Ok(texts) => texts,
        Err(error) => {
            eprintln!("tulle: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    let environment = settings.mesh.environment();
    let look_up = |name: &str| environment.look_up(name);
    let findings = tulle_config::analyze(&texts.files(), settings.mesh.settings(), &look_up);
    let count = |severity| findings.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let report = Report { files: texts.len(), errors, warnings, findings: &findings };
    match settings.output {
        Format::Json => output::json(&report)?,
        Format::Table => output::text(&for_people(&report))?,
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One paragraph per finding: where and what, then the field, then what to do.
fn for_people(report: &Report<'_>) -> String {
    let mut out = String::new();
    for found in report.findings {
        let Diagnostic { code, severity, file, at, object, path, message, help } = found;
        out.push_str(&format!("{file}:{}:{}: {severity}[{code}]: {message}\n", at.line, at.column));
        let field = [object.as_ref().map(ToString::to_string), Some(path.clone())];
        let field: Vec<String> = field.into_iter().flatten().filter(|p| !p.is_empty()).collect();
        if !field.is_empty() {
            out.push_str(&format!("  in {}\n", field.join(" ")));
        }
        if !help.is_empty() {
            out.push_str(&format!("  help: {help}\n"));
        }
        out.push('\n');
    }
    let Report { files, errors, warnings, .. } = report;
    let (files, errors) = (counted(*files, "file"), counted(*errors, "error"));
    out.push_str(&format!("{files}: {errors}, {}\n", counted(*warnings, "warning")));
    out
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
