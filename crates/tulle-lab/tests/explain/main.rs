//! `explain` against the record: for 1,000 random pairs of configuration and request, what the
//! control plane says a proxy would do is what the running proxy says it did, and what the
//! application received. A failure names its seed; `TULLE_SEED=n` plays that one alone.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use compare::{Pair, differences};
use mesh::Mesh;
use seed::Seed;

mod compare;
mod mesh;
mod seed;
mod world;

/// Worlds, and requests in each of them.
const WORLDS: u64 = 5;
const REQUESTS: usize = 200;
/// Requests of each world that the command line is asked about too.
const ASKED_TWICE: usize = 4;

/// What was seen over all worlds, by kind: a generator that makes only dull worlds is noticed.
type Kinds = BTreeMap<String, usize>;

#[expect(clippy::disallowed_methods, reason = "how a failure is played again")]
fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("TULLE_SEED"), number("TULLE_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (0..count).collect(),
        (None, None) => (0..WORLDS).collect(),
    }
}

#[tokio::test]
async fn what_is_explained_is_what_is_recorded() {
    let begun = Instant::now();
    let seeds = seeds();
    let mut kinds = Kinds::new();
    let mut wrong = Vec::new();
    for seed in &seeds {
        wrong.extend(play(*seed, &mut kinds).await);
    }
    println!("{} worlds in {:?}: {kinds:#?}", seeds.len(), begun.elapsed());
    let all = wrong.join("\n");
    assert!(wrong.is_empty(), "{} pairs differ\n{all}", wrong.len());
    if seeds.len() < WORLDS as usize {
        return;
    }
    for kind in ["forwarded", "redirected", "answered", "NR", "NC", "UH", "UF", "FI", "URX", "DI"] {
        assert!(kinds.get(kind).is_some_and(|count| *count >= 5), "hardly any {kind}: {kinds:#?}");
    }
}

/// One world and its requests; what differs.
async fn play(number: u64, kinds: &mut Kinds) -> Vec<String> {
    let mut seed = Seed::new(number);
    let mesh = Mesh::start(&mut seed).await;
    let mut asked = Vec::new();
    for index in 0..REQUESTS {
        let caller = seed.below(world::NAMESPACES.len());
        let request = world::request(&mut seed);
        let id = format!("seed-{number}-request-{index}");
        let explained = mesh.explained(caller, &request).await;
        if index < ASKED_TWICE {
            mesh.asked_by_command(caller, &request, &explained);
        }
        let observed = mesh.sent(caller, &request, &id).await;
        asked.push((id, caller, request, explained, observed));
    }
    let records = mesh.records(REQUESTS).await;
    let mut wrong = Vec::new();
    for (id, caller, request, explained, observed) in asked {
        let record = records.get(&id).cloned().unwrap_or(Value::Null);
        let pair = Pair { request: &request, explained: &explained, observed, record: &record };
        count(&pair, kinds);
        let differ = differences(&pair, mesh.ports);
        if !differ.is_empty() {
            let namespace = world::NAMESPACES[caller];
            let files = mesh.text();
            wrong.push(format!(
                "TULLE_SEED={number}: {id} of {namespace}: {request:?}\n  {}\nexplained: \
                 {explained:#}\nrecorded: {record:#}\nin\n{files}",
                differ.join("\n  ")
            ));
        }
    }
    // The first tells enough: a world is long.
    wrong.truncate(1);
    wrong
}

fn count(pair: &Pair<'_>, kinds: &mut Kinds) {
    let end = pair.explained["end"]["is"].as_str().unwrap_or_default();
    let flags = pair.record["response_flags"].as_str().unwrap_or_default();
    for kind in flags.split(',').filter(|flag| *flag != "-").chain([end]) {
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
}

/// How long something that happens at once may take.
const PATIENCE: Duration = Duration::from_secs(20);
