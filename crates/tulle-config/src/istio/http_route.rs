//! `HTTPRoute`: one rule for requests, its action and what happens on the way.

use std::time::Duration;

use tulle_model::http::FaultSettings;
use tulle_model::route::DirectResponse;

use super::http_action::{self, HeaderRules, Redirect, Retries, Rewrite};
use super::http_match::{self, HttpMatch};
use super::values::HostName;
use crate::diagnostic::Code;
use crate::reader::{Field, Fields};

/// Largest weight of one destination.
const MAX_WEIGHT: u32 = 1_000_000;

/// A rule for requests.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRoute {
    /// Name, for logs.
    pub name: String,
    /// It applies if any of these holds; empty is always.
    pub matches: Vec<HttpMatch>,
    /// What is done with the request.
    pub action: HttpAction,
    /// Header edits whatever the destination.
    pub headers: HeaderRules,
    /// Failures made on purpose.
    pub fault: Option<FaultSettings>,
    /// Longest time for the whole answer; zero is no limit, `None` is not said.
    pub timeout: Option<Duration>,
    /// What is tried again; `None` is not said.
    pub retries: Option<Retries>,
}

/// What is done with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpAction {
    /// Sent to one of these, after the rewrite.
    Route(Vec<HttpDestination>, Option<Rewrite>),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered.
    Respond(DirectResponse),
}

/// Where a share of the requests goes.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpDestination {
    /// The service.
    pub destination: Destination,
    /// Share relative to the sum of all weights.
    pub weight: u32,
    /// Header edits for this destination.
    pub headers: HeaderRules,
}

/// A service, perhaps a subset and a port of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// Its host as written.
    pub host: HostName,
    /// A subset that a `DestinationRule` defines.
    pub subset: Option<String>,
    /// A port; without one the service's only port, or the one the caller used.
    pub port: Option<u16>,
}

/// Reads one rule.
pub(super) fn read(item: &Field<'_>) -> Option<HttpRoute> {
    let fields = item.fields("HTTPRoute")?;
    let matches = fields.items("match").iter().filter_map(http_match::read).collect();
    let rule = HttpRoute {
        name: fields.text("name").unwrap_or_default(),
        matches,
        action: action(&fields)?,
        headers: fields
            .get("headers")
            .and_then(|field| http_action::edits(&field, true))
            .unwrap_or_default(),
        fault: fields.get("fault").and_then(|field| http_action::fault(&field)),
        timeout: fields.get("timeout").and_then(|field| field.duration(Duration::ZERO)),
        retries: fields.get("retries").and_then(|field| http_action::retries(&field)),
    };
    check(&fields, &rule);
    fields.finish(&[
        "delegate",
        "mirror",
        "mirrors",
        "mirrorPercent",
        "mirrorPercentage",
        "corsPolicy",
    ]);
    Some(rule)
}

fn action(fields: &Fields<'_>) -> Option<HttpAction> {
    let route = fields.get("route").filter(|field| !field.is_empty_list());
    let redirect = fields.get("redirect");
    let respond = fields.get("directResponse");
    let set = [&route, &redirect, &respond].iter().filter(|field| field.is_some()).count();
    if set == 0 {
        // A rule with an action that is not enforced gets that finding, not this one.
        if fields.quiet("delegate").is_none() {
            let message = "the rule says nothing about what to do";
            let help = "add route, redirect or directResponse";
            fields.whole().problem(Code::MissingField, message, help);
        }
        return refused();
    }
    if set > 1 {
        let message = "the rule has more than one action";
        let help = "keep one of route, redirect, directResponse";
        fields.whole().problem(Code::Conflict, message, help);
    }
    let rewrite = fields.get("rewrite").and_then(|field| http_action::rewrite(&field));
    if let Some(field) = redirect {
        return http_action::redirect(&field).map(HttpAction::Redirect);
    }
    if let Some(field) = respond {
        return http_action::direct_response(&field).map(HttpAction::Respond);
    }
    Some(HttpAction::Route(destinations(&route?), rewrite))
}

/// Stands for an action that was reported as wrong: the object is refused, but the rest of its
/// rule is still read, so that all findings come at once.
fn refused() -> Option<HttpAction> {
    Some(HttpAction::Route(Vec::new(), None))
}

fn check(fields: &Fields<'_>, rule: &HttpRoute) {
    let routes = matches!(rule.action, HttpAction::Route(..));
    for name in ["rewrite", "timeout", "retries"] {
        if let (Some(field), false) = (fields.get(name), routes) {
            let message = format!("{name} needs a route");
            field.problem(Code::Conflict, message, format!("remove {name}"));
        }
    }
    let HttpAction::Route(_, rewrite) = &rule.action else { return };
    let rewrites_host = rewrite.as_ref().is_some_and(|rewrite| rewrite.authority.is_some());
    if let (true, Some(_), Some(field)) =
        (rewrites_host, &rule.headers.authority, fields.get("rewrite"))
    {
        let message = "rewrite.authority and a Host header edit contradict each other";
        field.problem(Code::Conflict, message, "keep one of them");
    }
    check_weights(fields);
}

/// Weights: one destination needs none; several need a sum above zero, best 100.
pub(super) fn check_weights(fields: &Fields<'_>) {
    let Some(field) = fields.get("route") else { return };
    let weight = |item: &Field<'_>| match item.quiet_fields()?.quiet("weight") {
        None => Some(0),
        Some(weight) => weight.quiet_text()?.parse::<u32>().ok(),
    };
    // A weight that is no number has its own finding.
    let weights: Option<Vec<u32>> = field.items().iter().map(weight).collect();
    let Some(weights) = weights.filter(|weights| weights.len() > 1) else { return };
    match weights.iter().copied().map(u64::from).sum::<u64>() {
        100 => {}
        0 => {
            let message = "no destination has a weight";
            let help = "give the destinations weights, in sum 100";
            field.problem(Code::InvalidValue, message, help);
        }
        sum => {
            let message = format!("the weights add up to {sum}: shares are relative to that");
            field.problem(Code::WeightSum, message, "make them add up to 100");
        }
    }
}

fn destinations(field: &Field<'_>) -> Vec<HttpDestination> {
    let items = field.items();
    let single = items.len() == 1;
    items.iter().filter_map(|item| http_destination(item, single)).collect()
}

fn http_destination(item: &Field<'_>, single: bool) -> Option<HttpDestination> {
    let fields = item.fields("HTTPRouteDestination")?;
    let destination = fields.required("destination").and_then(|field| destination(&field));
    let weight = weight(&fields, single);
    let headers = fields.get("headers").and_then(|field| http_action::edits(&field, false));
    fields.finish(&[]);
    Some(HttpDestination {
        destination: destination?,
        weight,
        headers: headers.unwrap_or_default(),
    })
}

/// The weight of a destination; the only one of a rule takes everything.
pub(super) fn weight(fields: &Fields<'_>, single: bool) -> u32 {
    let weight = fields.get("weight").and_then(|field| field.number(0..=MAX_WEIGHT)).unwrap_or(0);
    if single { weight.max(1) } else { weight }
}

/// Reads a `Destination`.
pub(super) fn destination(field: &Field<'_>) -> Option<Destination> {
    let fields = field.fields("Destination")?;
    let host = fields.required("host").and_then(|field| {
        if field.quiet_text() == Some("*") {
            let message = "* is not one service";
            field.problem(Code::InvalidHost, message, "write the host of a service");
            return None;
        }
        field.parsed(Code::InvalidHost, HostName::parse)
    });
    let subset = fields.get("subset").and_then(|field| field.nonempty());
    let port = fields.get("port").and_then(|field| port_selector(&field));
    fields.finish(&[]);
    Some(Destination { host: host?, subset, port })
}

/// Reads a `PortSelector`.
pub(super) fn port_selector(field: &Field<'_>) -> Option<u16> {
    let fields = field.fields("PortSelector")?;
    let number = fields.required("number").and_then(|field| field.port());
    fields.finish(&[]);
    number
}
