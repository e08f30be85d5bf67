//! `tulle explain`: what a proxy would do with a call, and which line of which object says so.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;
use tulle_config::client::{Bind, Role};
use tulle_config::explain::{Question, client_of};
use tulle_config::{Client, World};

use crate::control::{Control, Workload, escaped};
use crate::files::{Mesh, Texts};
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  tulle explain --from shop/order --to http://payment:7070/pay --config ./mesh
  tulle explain --from test/any --to http://172.16.17.5/ -H 'service: stockservice' --config ./mesh
  tulle explain --from shop/order-v1-1 --to http://payment:7070/ -X POST --control 127.0.0.1:15014

Nothing is sent. The decisions are the proxy's own; what it knows only at run time (which endpoint
is ejected, which limit is reached, what a name resolves to) is not part of them.

Exit code: 0 if somebody answers, 1 if the call fails, 2 if the question has no meaning.";

/// Say what becomes of a call, step by step, without sending it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// The calling workload.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    from: Workload,
    /// http://HOST[:PORT]/PATH, https://HOST[:PORT] or tcp://HOST:PORT.
    #[arg(long, value_name = "URL")]
    to: String,
    /// Method of the request.
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Header of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The caller speaks HTTP/2 from the first byte.
    #[arg(long)]
    http2: bool,
    /// Directory or file of the configuration; may be given several times.
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    config: Vec<PathBuf>,
    /// Admin address of the control plane to ask instead.
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<String>,
    /// Labels of the calling workload, where its object or registration does not say them.
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = label)]
    #[arg(conflicts_with = "control")]
    labels: Vec<(String, String)>,
    /// The proxy is a gateway, not the sidecar of a workload.
    #[arg(long, conflicts_with = "control")]
    gateway: bool,
    /// The application sends what it calls to the sidecar; nothing is intercepted.
    #[arg(long, conflicts_with_all = ["gateway", "control"])]
    explicit: bool,
    #[command(flatten)]
    mesh: Mesh,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once(':').ok_or_else(|| format!("`{text}` is no header; write NAME: VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no label; write KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the verb.
///
/// # Errors
/// The control plane does not answer, or standard output cannot be written.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    let told = match &settings.control {
        Some(address) => by_control_plane(settings, address)?,
        None => match offline(settings) {
            Ok(told) => told,
            Err(error) => {
                eprintln!("tulle: {error:#}");
                return Ok(ExitCode::from(2));
            }
        },
    };
    match settings.output {
        Format::Json => output::json(&told)?,
        Format::Table => output::text(&for_people(&told))?,
    }
    let is_good = told["good"].as_bool().unwrap_or_default();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn by_control_plane(settings: &Settings, address: &str) -> Result<Value> {
    let Workload { namespace, name } = &settings.from;
    let mut query = format!("to={}&method={}", escaped(&settings.to), escaped(&settings.method));
    for (name, value) in &settings.headers {
        query.push_str(&format!("&header={}", escaped(&format!("{name}: {value}"))));
    }
    if settings.http2 {
        query.push_str("&http2=true");
    }
    let control = Control { address: address.to_owned() };
    control.ask(&format!("/api/v1/explain/{namespace}/{name}?{query}"))
}

fn offline(settings: &Settings) -> Result<Value> {
    if settings.config.is_empty() {
        bail!("whose configuration? give --config DIR or --control HOST:PORT");
    }
    let texts = Texts::read(&settings.config)?;
    let environment = settings.mesh.environment();
    let loaded = tulle_config::load(&texts.files(), &|name| environment.look_up(name));
    let errors = loaded.diagnostics.iter().filter(|found| found.is_error()).count();
    if errors > 0 {
        eprintln!("tulle: {errors} errors in the configuration, see `tulle analyze`");
    }
    let sources = loaded.source_map();
    let objects = loaded.objects.into_values().map(|loaded| loaded.object);
    let world = World::new(settings.mesh.settings(), objects, []);
    let question = Question {
        to: settings.to.clone(),
        method: settings.method.clone(),
        headers: settings.headers.clone(),
        http2: settings.http2,
    };
    let call = question.call(client(settings, &world))?;
    let report = tulle_config::explain(&world, &call).report(&sources);
    Ok(serde_json::to_value(report)?)
}

fn client(settings: &Settings, world: &World) -> Client {
    let mut client = client_of(world, &settings.from.namespace, &settings.from.name);
    client.labels.extend(settings.labels.iter().cloned());
    if settings.gateway {
        client.role = Role::Gateway;
    }
    client.bind = Bind { explicit: settings.explicit, ..Bind::default() };
    client
}

/// The steps, each with what made it so on a line of its own, then the end.
fn for_people(told: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = told["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width = steps.iter().map(|step| text(&step["about"]).len()).max().unwrap_or_default();
    let mut out = String::new();
    let mut before = String::new();
    for step in steps {
        out.push_str(&format!("{:width$}  {}\n", text(&step["about"]), text(&step["outcome"])));
        let by = [text(&step["origin"]), place(&step["place"])];
        let by: Vec<String> = by.into_iter().filter(|part| !part.is_empty()).collect();
        let by = by.join("  ");
        if !by.is_empty() && by != before {
            out.push_str(&format!("{:width$}    by {by}\n", ""));
        }
        before = by;
    }
    out.push_str(&format!("\n=> {}\n", end(&told["end"])));
    out
}

fn place(place: &Value) -> String {
    let number = |name: &str| place[name].as_u64().unwrap_or_default();
    place["file"]
        .as_str()
        .map_or(String::new(), |file| format!("{file}:{}:{}", number("line"), number("column")))
}

fn end(end: &Value) -> String {
    let field = |name: &str| end[name].as_str().unwrap_or_default().to_owned();
    let status = || end["status"].as_u64().unwrap_or_default();
    match &*field("is") {
        "forwarded" => {
            let shares = end["to"].as_array().map(Vec::as_slice).unwrap_or_default();
            let all: Vec<String> = shares.iter().map(share).collect();
            format!("forwarded to {}", all.join("\n   or to "))
        }
        "redirected" => format!("{}: the caller is sent to {}", status(), field("location")),
        "answered" => format!("{}: answered by the proxy, as configured", status()),
        "refused" => format!("{} {}: {}", status(), field("flag"), field("why")),
        _ => format!("closed, {}: {}", field("flag"), field("why")),
    }
}

fn share(share: &Value) -> String {
    let name = share["cluster"].as_str().unwrap_or_default();
    if let Some(problem) = share["problem"].as_object() {
        let text = |field: &str| problem.get(field).and_then(Value::as_str).unwrap_or_default();
        let status = problem.get("status").and_then(Value::as_u64).unwrap_or_default();
        return format!("{name}, which fails: {status} {}: {}", text("flag"), text("why"));
    }
    let endpoints = share["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let endpoints: Vec<&str> = endpoints.iter().filter_map(Value::as_str).collect();
    format!("{name}: {}", endpoints.join(" or "))
}
