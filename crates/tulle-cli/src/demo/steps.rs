//! The story of the demonstration, step by step.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::config;
use super::mesh::{Mesh, ORDER, PAYMENT, STOCK};
use super::process::{LOOK, PATIENCE, loopback};
use super::report::Report;
use super::traffic::{self, Counts, Load};

/// Requests a second.
const RATE: u32 = 400;
/// Requests that a share is measured over.
const SAMPLE: u64 = 5_000;

/// All steps.
pub async fn all(mesh: &mut Mesh, report: &mut Report, outage: Duration) -> Result<()> {
    mesh_up(mesh, report).await?;
    header_routing(mesh, report).await?;
    canary(mesh, report).await?;
    instance_added(mesh, report).await?;
    instance_killed(mesh, report).await?;
    rolling_replacement(mesh, report).await?;
    bad_config(mesh, report).await?;
    control_plane_outage(mesh, report, outage).await
}

fn start_load(mesh: &Mesh) -> Load {
    Load::start(loopback(mesh.entry), RATE, mesh.next_run(), &[])
}

/// Waits until so many requests are done.
async fn until_done(load: &Load, count: u64) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while load.done() < count && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}

async fn mesh_up(mesh: &mut Mesh, report: &mut Report) -> Result<()> {
    if report.is_sabotaged("mesh-up") {
        while let Ok(stock) = mesh.instance_of(STOCK) {
            mesh.kill(&stock).await?;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        match traffic::get(loopback(mesh.entry), "shop.example", "/", &[]).await {
            Ok(answer) if answer.status == 200 => {
                let proxies = mesh.ask("/api/v1/proxies").await?;
                let count = proxies.as_array().map_or(0, Vec::len);
                let observed =
                    format!("{count} proxies; a request went gateway → order → stock → payment");
                report.check("mesh-up", count == mesh.instances.len() + 1, &observed);
                return Ok(());
            }
            Ok(answer) => {
                last =
                    format!("status {} {}", answer.status, String::from_utf8_lossy(&answer.body));
            }
            Err(error) => last = format!("{error:#}"),
        }
        sleep(LOOK).await;
    }
    report.check("mesh-up", false, &last.chars().take(300).collect::<String>());
    Ok(())
}

async fn header_routing(mesh: &Mesh, report: &mut Report) -> Result<()> {
    let mark = if report.is_sabotaged("header-routing") { "no" } else { "yes" };
    let load = Load::start(loopback(mesh.entry), RATE, mesh.next_run(), &[("x-tester", mark)]);
    until_done(&load, 500).await;
    let counts = load.stop().await;
    let v2 = counts.payment.get("v2").copied().unwrap_or(0);
    let all: u64 = counts.payment.values().sum();
    let observed = format!("{v2} of {all} payments of testers by v2, {}", counts.failed());
    report.check("header-routing", v2 == all && all > 0 && counts.failures() == 0, &observed);
    Ok(())
}

async fn canary(mesh: &Mesh, report: &mut Report) -> Result<()> {
    let load = start_load(mesh);
    until_done(&load, SAMPLE).await;
    let before = load.stop().await;
    let share = if report.is_sabotaged("canary") { 90 } else { 50 };
    config::write(&mesh.config(), "payment.yaml", &config::payment(share, 100 - share))?;
    report.say("edited the VirtualService: 90/10 → 50/50");
    settled(mesh).await?;
    let load = start_load(mesh);
    until_done(&load, SAMPLE).await;
    let after = load.stop().await;
    let (first, was) = within(&before, 0.10);
    let (second, is) = within(&after, 0.50);
    let holds = first && second && before.failures() + after.failures() == 0;
    let observed = format!("v2 took {was}, then {is}; {}", after.failed());
    report.check("canary", holds, &observed);
    Ok(())
}

/// Waits until every proxy acknowledged the newest generation that it was sent.
async fn settled(mesh: &Mesh) -> Result<()> {
    let of = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0);
    let in_sync = |proxies: &Value| {
        let proxies = proxies.as_array().into_iter().flatten();
        let streams = proxies.filter_map(|proxy| proxy.get("streams")?.as_array()).flatten();
        let types = streams.filter_map(|stream| stream.get("types")?.as_object());
        types
            .flat_map(|types| types.values())
            .all(|kind| of(kind, "ackedGeneration") >= of(kind, "sentGeneration"))
    };
    // The edit must first be seen: a rename is noticed at once, a slow disk may take longer.
    sleep(Duration::from_millis(300)).await;
    mesh.until("/api/v1/proxies", in_sync).await.map(drop)
}

/// Whether the share of v2 is within three standard deviations of `expected`.
fn within(counts: &Counts, expected: f64) -> (bool, String) {
    let v2 = counts.payment.get("v2").copied().unwrap_or(0) as f64;
    let all = counts.payment.values().sum::<u64>() as f64;
    let deviation = (expected * (1.0 - expected) / all.max(1.0)).sqrt();
    let share = v2 / all.max(1.0);
    let holds = all > 0.0 && (share - expected).abs() <= 3.0 * deviation;
    (holds, format!("{:.1} % of {all} (3σ = {:.1} %)", share * 100.0, 300.0 * deviation))
}

async fn instance_added(mesh: &mut Mesh, report: &mut Report) -> Result<()> {
    let load = start_load(mesh);
    until_done(&load, 200).await;
    let name = if report.is_sabotaged("instance-added") {
        "payment-v1-none".to_owned()
    } else {
        mesh.add(PAYMENT, "v1").await?
    };
    let begun = Instant::now();
    while load.answers_of(&name) == 0 && begun.elapsed() < Duration::from_secs(10) {
        sleep(LOOK).await;
    }
    let after = begun.elapsed();
    until_done(&load, load.done() + 500).await;
    let answers = load.answers_of(&name);
    let counts = load.stop().await;
    let observed = format!(
        "{name} answered {answers} requests, the first {} ms after it was ready, no YAML edited; \
         {}",
        after.as_millis(),
        counts.failed()
    );
    report.check("instance-added", answers > 0 && counts.failures() == 0, &observed);
    Ok(())
}

async fn instance_killed(mesh: &mut Mesh, report: &mut Report) -> Result<()> {
    let run = mesh.next_run();
    let load = Load::start(loopback(mesh.entry), RATE, run, &[]);
    until_done(&load, 400).await;
    let victim = mesh.instance_of(ORDER)?;
    if report.is_sabotaged("instance-killed") {
        while let Ok(name) = mesh.instance_of(ORDER) {
            mesh.kill(&name).await?;
        }
    } else {
        mesh.kill(&victim).await?;
    }
    until_done(&load, load.done() + 1_500).await;
    let counts = load.stop().await;
    let gets: u64 = counts.bad.values().sum();
    let twice = arrived_twice(mesh, run, counts.posts);
    let observed = format!(
        "killed {victim}: {gets} of {} GETs failed, {} of {} POSTs, {twice} POSTs arrived twice; \
         {}",
        counts.total() - counts.posts,
        counts.bad_posts,
        counts.posts,
        counts.failed()
    );
    let holds = gets == 0 && counts.bad_posts <= 1 && twice == 0;
    report.check("instance-killed", holds, &observed);
    if mesh.instance_of(ORDER).is_err() {
        mesh.add(ORDER, "v1").await?;
    }
    mesh.add(ORDER, "v1").await?;
    Ok(())
}

/// How many of the first POSTs of a run reached an application more than once.
fn arrived_twice(mesh: &Mesh, run: u32, posts: u64) -> usize {
    (1..=posts).filter(|post| mesh.arrivals(ORDER, &traffic::post_mark(run, *post)) > 1).count()
}

async fn rolling_replacement(mesh: &mut Mesh, report: &mut Report) -> Result<()> {
    let load = start_load(mesh);
    until_done(&load, 400).await;
    let old: Vec<_> = mesh.instances.iter().map(|one| (one.name.clone(), one.service)).collect();
    let mut replaced = 0;
    for (name, service) in old {
        let version = if name.contains("-v2-") { "v2" } else { "v1" };
        if report.is_sabotaged("rolling-replacement") {
            mesh.kill(&name).await?;
            mesh.add(service, version).await?;
        } else {
            mesh.add(service, version).await?;
            mesh.drain(&name).await?;
        }
        replaced += 1;
    }
    until_done(&load, load.done() + 500).await;
    let counts = load.stop().await;
    let observed = format!(
        "{replaced} instances replaced under load: {} of {} requests failed, {} of {} POSTs; {}",
        counts.failures(),
        counts.total(),
        counts.bad_posts,
        counts.posts,
        counts.failed()
    );
    report.check("rolling-replacement", counts.failures() == 0, &observed);
    Ok(())
}

async fn bad_config(mesh: &Mesh, report: &mut Report) -> Result<()> {
    let text = if report.is_sabotaged("bad-config") {
        config::BAD.replace("timeout: fast", "timeout: 5s")
    } else {
        config::BAD.to_owned()
    };
    let load = start_load(mesh);
    config::write(&mesh.config(), "stock.yaml", &text)?;
    let found = |findings: &Value| findings.to_string().contains("stock.yaml");
    let findings = mesh.until("/api/v1/findings", found).await;
    until_done(&load, 500).await;
    std::fs::remove_file(mesh.config().join("stock.yaml"))?;
    let counts = load.stop().await;
    let message = findings.as_ref().map_or_else(ToString::to_string, first_message);
    let observed = format!("refused with «{message}» while traffic went on: {}", counts.failed());
    report.check("bad-config", findings.is_ok() && counts.failures() == 0, &observed);
    Ok(())
}

fn first_message(findings: &Value) -> String {
    let list = findings.as_array().or_else(|| findings.get("findings")?.as_array());
    let finding = list.into_iter().flatten().find(|one| one.to_string().contains("stock.yaml"));
    let text = |key: &str| {
        let value = finding.and_then(|one| one.get(key));
        value.map_or_else(String::new, |value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    format!(
        "{}:{}:{}: {}: {}",
        text("file"),
        text("line"),
        text("column"),
        text("field"),
        text("message")
    )
}

async fn control_plane_outage(
    mesh: &mut Mesh,
    report: &mut Report,
    outage: Duration,
) -> Result<()> {
    let load = start_load(mesh);
    until_done(&load, 200).await;
    mesh.kill_control().await?;
    report.say("killed the control plane");
    let begun = Instant::now();
    sleep(outage / 4).await;
    let restarted = mesh.instance_of(STOCK)?;
    if report.is_sabotaged("control-plane-outage") {
        while let Ok(stock) = mesh.instance_of(STOCK) {
            mesh.kill(&stock).await?;
        }
    } else {
        mesh.restart_sidecar(&restarted).await?;
    }
    while begun.elapsed() < outage {
        sleep(LOOK).await;
    }
    mesh.start_control().await?;
    let count = mesh.instances.len() + 1;
    let all_back = |proxies: &Value| proxies.as_array().is_some_and(|list| list.len() >= count);
    let back = mesh.until("/api/v1/proxies", all_back).await.is_ok();
    until_done(&load, load.done() + 400).await;
    let counts = load.stop().await;
    let observed = format!(
        "{} s without it, sidecar of {restarted} restarted meanwhile: {} of {} requests failed \
         ({}); all proxies back: {back}",
        outage.as_secs(),
        counts.failures(),
        counts.total(),
        counts.failed()
    );
    report.check("control-plane-outage", back && counts.failures() == 0, &observed);
    Ok(())
}
