//! The story of the demonstration, step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::config::{self, INSTANCES, ORDER, PAYMENT, STOCK};
use super::mesh::Mesh;
use super::process::{LOOK, PATIENCE};
use super::report::Report;
use super::traffic::{self, Counts, HOST, Load};

/// Answers of payment that a share is measured over.
const SAMPLE: u64 = 5_000;
/// How long may be waited for as many.
const SAMPLE_TIME: Duration = Duration::from_secs(240);
/// Requests that are watched at least where something ends under them…
const WATCHED: u64 = 300;
/// …unless it takes longer.
const WATCH_TIME: Duration = Duration::from_secs(30);
/// The control plane's absence that the lengths of the other steps are given for.
const USUAL: Duration = Duration::from_secs(20);
/// The marks of a rule for stock that is good, and of the edit of it that is not.
const RULES: [&str; 2] = ["rule-in-force", "rule-refused"];
/// Requests by which it is seen which rule is in force.
const ASKED: u32 = 4;
/// No step watches traffic for less.
const SHORTEST: Duration = Duration::from_millis(500);

/// How fast the story is told.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Requests a second.
    rate: u32,
    /// How long the control plane is away.
    outage: Duration,
}

impl Pace {
    /// What is `usual` in a demonstration of usual length.
    fn span(self, usual: Duration) -> Duration {
        usual.mul_f64(self.outage.as_secs_f64() / USUAL.as_secs_f64()).max(SHORTEST)
    }

    fn load(self, mesh: &Mesh) -> Load {
        Load::start(mesh.entry(), self.rate, mesh.next_run(), &[])
    }

    /// Lets traffic go on for a while.
    async fn watch(self, usual_seconds: u64) {
        sleep(self.span(Duration::from_secs(usual_seconds))).await;
    }
}

/// All steps that the report wants.
pub async fn all(mesh: &mut Mesh, report: &mut Report, outage: Duration) -> Result<()> {
    if !mesh_up(mesh, report).await? {
        return Ok(());
    }
    let rate = traffic::easy_rate(mesh.entry()).await?;
    let pace = Pace { rate, outage };
    report.say(&format!("traffic from here on: {rate} requests a second, one in 100 a POST"));
    if report.wants("header-routing") {
        header_routing(mesh, report, pace).await?;
    }
    if report.wants("canary") {
        canary(mesh, report, pace).await?;
    }
    if report.wants("instance-added") {
        instance_added(mesh, report, pace).await?;
    }
    if report.wants("instance-killed") {
        instance_killed(mesh, report, pace).await?;
    }
    if report.wants("rolling-replacement") {
        rolling_replacement(mesh, report, pace).await?;
    }
    if report.wants("bad-config") {
        bad_config(mesh, report, pace).await?;
    }
    if report.wants("control-plane-outage") {
        control_plane_outage(mesh, report, pace).await?;
    }
    Ok(())
}

async fn mesh_up(mesh: &mut Mesh, report: &mut Report) -> Result<bool> {
    if report.is_sabotaged("mesh-up") {
        mesh.kill_all(STOCK).await?;
    }
    let wanted = INSTANCES.len() + 1;
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        let answer = traffic::get(mesh.entry(), HOST, "/", &[]).await;
        let proxies = mesh.ask("/api/v1/proxies").await?.as_array().map_or(0, Vec::len);
        match answer {
            Ok(answer) if answer.status == 200 && proxies == wanted => {
                let observed = format!(
                    "{proxies} proxies; a request went gateway → order → stock → payment, \
                     and order → payment"
                );
                report.check("mesh-up", true, &observed);
                return Ok(true);
            }
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                last = format!("status {}, {proxies} of {wanted} proxies: {text}", answer.status);
            }
            Err(error) => last = format!("{error:#}"),
        }
        sleep(LOOK).await;
    }
    report.check("mesh-up", false, &last.chars().take(300).collect::<String>());
    Ok(false)
}

async fn header_routing(mesh: &Mesh, report: &mut Report, pace: Pace) -> Result<()> {
    let mark = if report.is_sabotaged("header-routing") { "no" } else { "yes" };
    let headers = [("x-tester", mark)];
    let load = Load::start(mesh.entry(), pace.rate, mesh.next_run(), &headers);
    pace.watch(2).await;
    let counts = load.stop().await;
    let v2 = counts.payment.get("v2").copied().unwrap_or(0);
    let all: u64 = counts.payment.values().sum();
    let observed =
        format!("{v2} of {all} payments of testers (x-tester: yes) by v2; {}", counts.failed());
    report.check("header-routing", v2 == all && all > 0 && counts.failures() == 0, &observed);
    Ok(())
}

async fn canary(mesh: &Mesh, report: &mut Report, pace: Pace) -> Result<()> {
    let before = sample(mesh, pace).await;
    let share = if report.is_sabotaged("canary") { 90 } else { 50 };
    report.say("edit payment.yaml: weights 90/10 → 50/50");
    let begun = Instant::now();
    // With the old shares there is nothing to wait for but that the file was read.
    let edit =
        || config::write(&mesh.config(), "payment.yaml", &config::payment(share, 100 - share));
    if share == 50 {
        mesh.edited(edit).await?;
        let after = begun.elapsed().as_millis();
        report.say(&format!("every proxy holds the new weights after {after} ms"));
    } else {
        edit()?;
    }
    let after = sample(mesh, pace).await;
    let (first, was) = within(&before, 0.10);
    let (second, is) = within(&after, 0.50);
    let both = before.with(after);
    let holds = first && second && both.failures() == 0;
    let observed = format!("v2 took {was}, then {is} of payments; {}", both.failed());
    report.check("canary", holds, &observed);
    Ok(())
}

/// Traffic until a share can be measured.
async fn sample(mesh: &Mesh, pace: Pace) -> Counts {
    let load = pace.load(mesh);
    let deadline = Instant::now() + SAMPLE_TIME;
    while load.payments() < SAMPLE && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    load.stop().await
}

/// Whether the share of v2 is within three standard deviations of `expected`.
fn within(counts: &Counts, expected: f64) -> (bool, String) {
    let v2 = counts.payment.get("v2").copied().unwrap_or(0) as f64;
    let all = counts.payment.values().sum::<u64>();
    let deviation = (expected * (1.0 - expected) / all.max(1) as f64).sqrt();
    let share = v2 / all.max(1) as f64;
    let holds = all >= SAMPLE && (share - expected).abs() <= 3.0 * deviation;
    let (percent, expected) = (share * 100.0, expected * 100.0);
    (holds, format!("{percent:.1} % of {all} ({expected:.0} ± {:.1})", 300.0 * deviation))
}

async fn instance_added(mesh: &mut Mesh, report: &mut Report, pace: Pace) -> Result<()> {
    let objects = config::snapshot(&mesh.config())?;
    let load = pace.load(mesh);
    pace.watch(1).await;
    let name = match report.is_sabotaged("instance-added") {
        true => "payment-v1-none".to_owned(),
        false => mesh.add(PAYMENT, "v1").await?,
    };
    let begun = Instant::now();
    while load.answers_of(&name) == 0 && begun.elapsed() < PATIENCE / 2 {
        sleep(LOOK).await;
    }
    let after = begun.elapsed().as_millis();
    pace.watch(2).await;
    let answers = load.answers_of(&name);
    let counts = load.stop().await;
    let edited = edited(&objects, mesh)?;
    let observed = format!(
        "{name} answered {answers} requests, the first {after} ms after it was ready; {edited}; {}",
        counts.failed()
    );
    let holds = answers > 0 && counts.failures() == 0 && edited == UNEDITED;
    report.check("instance-added", holds, &observed);
    Ok(())
}

const UNEDITED: &str = "no YAML edited";

fn edited(objects: &BTreeMap<String, String>, mesh: &Mesh) -> Result<&'static str> {
    let is_same = config::snapshot(&mesh.config())? == *objects;
    Ok(if is_same { UNEDITED } else { "somebody edited YAML" })
}

async fn instance_killed(mesh: &mut Mesh, report: &mut Report, pace: Pace) -> Result<()> {
    let objects = config::snapshot(&mesh.config())?;
    let run = mesh.next_run();
    let load = Load::start(mesh.entry(), pace.rate, run, &[]);
    pace.watch(1).await;
    let victim = mesh.instance_of(ORDER)?;
    match report.is_sabotaged("instance-killed") {
        true => mesh.kill_all(ORDER).await?,
        false => mesh.kill(&victim).await?,
    }
    pace.watch(4).await;
    watched(&load).await;
    let counts = load.stop().await;
    let gets = counts.failures() - counts.bad_posts;
    let (once, arrivals) = arrived(&mesh.logged(ORDER), run, &counts);
    let edited = edited(&objects, mesh)?;
    let observed = format!(
        "SIGKILL for {victim}: {gets} of {} GETs failed, {} of {} POSTs, {arrivals}; {edited}; {}",
        counts.total() - counts.posts,
        counts.bad_posts,
        counts.posts,
        counts.failed()
    );
    let holds = gets == 0 && counts.bad_posts <= 1 && once && edited == UNEDITED;
    report.check("instance-killed", holds, &observed);
    while mesh.instances.iter().filter(|one| one.service == ORDER).count() < 2 {
        mesh.add(ORDER, "v1").await?;
    }
    Ok(())
}

/// Waits until traffic has seen enough.
async fn watched(load: &Load) {
    let deadline = Instant::now() + WATCH_TIME;
    while load.done() < WATCHED && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

/// Whether there were POSTs, each one that was answered reached an application exactly once, and
/// none more than once; and that in words.
fn arrived(log: &str, run: u32, counts: &Counts) -> (bool, String) {
    let arrivals = |post: &u64| log.matches(&traffic::post_mark(run, *post)).count();
    let once = counts.answered_posts.iter().filter(|post| arrivals(post) == 1).count();
    let twice = (1..=counts.posts).filter(|post| arrivals(post) > 1).count();
    let answered = counts.answered_posts.len();
    let holds = once == answered && answered > 0 && twice == 0;
    (holds, format!("{once} of {answered} answered POSTs arrived once, {twice} twice"))
}

async fn rolling_replacement(mesh: &mut Mesh, report: &mut Report, pace: Pace) -> Result<()> {
    let run = mesh.next_run();
    let load = Load::start(mesh.entry(), pace.rate, run, &[]);
    pace.watch(1).await;
    let one = |one: &super::mesh::Instance| (one.name.clone(), one.service, one.version.clone());
    let old: Vec<_> = mesh.instances.iter().map(one).collect();
    let mut replaced = 0;
    if report.is_sabotaged("rolling-replacement") {
        // Nobody is left to answer until new ones are there.
        for (name, ..) in &old {
            mesh.kill(name).await?;
        }
        pace.watch(1).await;
    }
    for (name, service, version) in old {
        mesh.add(service, &version).await?;
        if !report.is_sabotaged("rolling-replacement") {
            mesh.drain(&name).await?;
        }
        replaced += 1;
    }
    pace.watch(1).await;
    watched(&load).await;
    let counts = load.stop().await;
    let (once, arrivals) = arrived(&mesh.logged(ORDER), run, &counts);
    let observed = format!(
        "{replaced} instances replaced, new ones first, old ones drained: {} of {} POSTs failed, \
         {arrivals}; {}",
        counts.bad_posts,
        counts.posts,
        counts.failed()
    );
    report.check("rolling-replacement", counts.failures() == 0 && once, &observed);
    Ok(())
}

async fn bad_config(mesh: &Mesh, report: &mut Report, pace: Pace) -> Result<()> {
    let write = |text: &str| config::write(&mesh.config(), "stock.yaml", text);
    mesh.edited(|| write(&config::stock(RULES[0], "5s"))).await?;
    let load = pace.load(mesh);
    report.say("edit stock.yaml with a mistake: timeout: fast");
    let timeout = if report.is_sabotaged("bad-config") { "6s" } else { "fast" };
    write(&config::stock(RULES[1], timeout))?;
    let found = |findings: &Value| finding(findings).is_some();
    let findings = mesh.until("/api/v1/findings", found).await;
    let in_force = rules_in_force(mesh).await?;
    pace.watch(1).await;
    std::fs::remove_file(mesh.config().join("stock.yaml"))?;
    let counts = load.stop().await;
    let message = match &findings {
        Ok(findings) => format!("refused with «{}»", message(finding(findings))),
        Err(error) => format!("nobody found anything wrong with it: {error:#}"),
    };
    let kept = in_force[0] >= ASKED as usize && in_force[1] == 0;
    let rule = if kept { "the rule before it is in force" } else { "it changed the rule" };
    let observed = format!("{message}; {rule}; meanwhile {}", counts.failed());
    report.check("bad-config", findings.is_ok() && kept && counts.failures() == 0, &observed);
    Ok(())
}

/// How many of [`ASKED`] requests reached stock by each of the [`RULES`].
async fn rules_in_force(mesh: &Mesh) -> Result<[usize; 2]> {
    let (run, headers) = (mesh.next_run(), "x-asked-by");
    let mark = |number: u32| traffic::post_mark(run, number.into());
    for number in 0..ASKED {
        let answer = traffic::get(mesh.entry(), HOST, "/", &[(headers, &mark(number))]).await?;
        anyhow::ensure!(answer.status == 200, "status {}", answer.status);
    }
    let log = mesh.logged(STOCK);
    let of_asked = |line: &&str| (0..ASKED).any(|number| line.contains(&mark(number)));
    let asked: Vec<&str> = log.lines().filter(of_asked).collect();
    Ok(RULES.map(|rule| asked.iter().filter(|line| line.contains(rule)).count()))
}

/// The finding about the mistake, if it is as useful as it should be: where it is, that the object
/// is refused, and what to do.
fn finding(findings: &Value) -> Option<&Value> {
    let list = findings.get("findings")?.as_array()?;
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    list.iter().find(|one| {
        text(one, "file").ends_with("stock.yaml")
            && text(one, "severity") == "error"
            && text(one, "path") == "spec.http[0].timeout"
            && !text(one, "help").is_empty()
    })
}

fn message(finding: Option<&Value>) -> String {
    let text = |key: &str| match finding.and_then(|one| one.get(key)) {
        Some(Value::String(text)) => text.rsplit('/').next().unwrap_or(text).to_owned(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let place = ["file", "line", "column"].map(text).join(":");
    format!("{place}: {}: {}; {}", text("path"), text("message"), text("help"))
}

async fn control_plane_outage(mesh: &mut Mesh, report: &mut Report, pace: Pace) -> Result<()> {
    let load = pace.load(mesh);
    pace.watch(1).await;
    mesh.kill_control().await?;
    report.say("SIGKILL for the control plane");
    let (begun, connections) = (Instant::now(), load.connections());
    sleep(pace.outage / 4).await;
    let restarted = mesh.instance_of(STOCK)?;
    report.say(&format!("restart the sidecar of {restarted}, with nobody there to ask"));
    if report.is_sabotaged("control-plane-outage") {
        mesh.forget_state(&restarted)?;
    }
    let restart = mesh.restart_sidecar(&restarted).await;
    sleep(pace.outage.saturating_sub(begun.elapsed())).await;
    let (away, connections) = (begun.elapsed().as_secs(), load.connections() - connections);
    mesh.start_control().await?;
    let count = mesh.instances.len() + 1;
    let all_back = |proxies: &Value| proxies.as_array().is_some_and(|list| list.len() >= count);
    let back = mesh.until("/api/v1/proxies", all_back).await;
    pace.watch(1).await;
    let counts = load.stop().await;
    let restart_words = match &restart {
        Ok(()) => format!("the sidecar of {restarted} came back from what it had kept"),
        Err(error) => format!("the sidecar of {restarted} did not come back: {error:#}"),
    };
    let back_words = match &back {
        Ok(_) => format!("then all {count} proxies were there again"),
        Err(error) => format!("proxies are missing afterwards: {error:#}"),
    };
    let observed = format!(
        "{away} s without it, {connections} new connections, {restart_words}, {back_words}; {}",
        counts.failed()
    );
    let holds = restart.is_ok() && back.is_ok() && counts.failures() == 0 && connections > 0;
    report.check("control-plane-outage", holds, &observed);
    Ok(())
}
