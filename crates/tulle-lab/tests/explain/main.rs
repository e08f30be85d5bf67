//! `explain` against the record: for more than 1,000 random pairs of configuration and request,
//! what the control plane says a proxy would do is what the running proxy says it did, and what
//! the application received. A few meshes go through all worlds, as a mesh does whose files are
//! edited.
//!
//! Most worlds are the same in each run; some are new, from a number that is printed. A failure
//! names its seed: `TULLE_SEED=n` plays that world alone, `TULLE_SEED=m,n` one after the other.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use compare::{Pair, differences, part_of};
use edits::Edits;
use mesh::Mesh;
use seed::Seed;

mod compare;
mod edits;
mod mesh;
mod seed;
mod world;

/// Worlds that are the same in each run, and those that are not.
const WORLDS: u64 = 50;
const NEW_WORLDS: u64 = 10;
/// Requests in each of them.
const REQUESTS: usize = 20;
/// Requests of each world that the command line is asked about too.
const ASKED_TWICE: usize = 1;
/// Meshes at the same time: each of them waits most of its time for what is held back.
const MESHES: usize = 8;
/// How often a request is sent that chance may end: one of them gets through, all but never none.
const CHANCES: usize = 8;

/// What was seen over all worlds, by kind: a generator that makes only dull worlds is noticed.
type Kinds = BTreeMap<String, usize>;

#[expect(clippy::disallowed_methods, reason = "how a failure is played again")]
fn seeds() -> Vec<u64> {
    let variable = |name| std::env::var(name).ok();
    if let Some(list) = variable("TULLE_SEED") {
        return list.split(',').map(|number| number.parse().unwrap()).collect();
    }
    let count = variable("TULLE_SEEDS").map_or(WORLDS, |count| count.parse().unwrap());
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    (0..count).chain(now..now + NEW_WORLDS).collect()
}

#[tokio::test]
async fn what_is_explained_is_what_is_recorded() {
    let begun = Instant::now();
    let seeds = seeds();
    let meshes = if seeds.len() < WORLDS as usize { 1 } else { MESHES };
    println!("worlds {seeds:?}, each mesh with every {meshes}th");
    let plays: Vec<_> = (0..meshes)
        .map(|first| {
            let own: Vec<u64> = seeds.iter().copied().skip(first).step_by(meshes).collect();
            tokio::spawn(play_all(own))
        })
        .collect();
    let (mut kinds, mut wrong) = (Kinds::new(), Vec::new());
    for play in plays {
        let (seen, found) = play.await.unwrap();
        wrong.extend(found);
        for (kind, count) in seen {
            *kinds.entry(kind).or_default() += count;
        }
    }
    println!("{} worlds in {:?}: {kinds:#?}", seeds.len(), begun.elapsed());
    let all = wrong.join("\n");
    assert!(wrong.is_empty(), "{} worlds differ\n{all}", wrong.len());
    if seeds.len() < WORLDS as usize {
        return;
    }
    for kind in [
        "forwarded",
        "redirected",
        "answered",
        "NR",
        "NC",
        "UH",
        "UF",
        "FI",
        "URX",
        "DI",
        "edited by share",
        "passed by chance",
    ] {
        assert!(kinds.get(kind).is_some_and(|count| *count >= 5), "hardly any {kind}: {kinds:#?}");
    }
}

/// Plays worlds one after the other in one mesh; what was seen, and what differs in each.
async fn play_all(seeds: Vec<u64>) -> (Kinds, Vec<String>) {
    let (mut kinds, mut wrong) = (Kinds::new(), Vec::new());
    let mesh = Mesh::start().await;
    let mut before = None;
    for seed in seeds {
        let found = play(&mesh, seed, &mut kinds).await;
        wrong.extend(found.map(|text| format!("after {before:?}: {text}")));
        before = Some(seed);
    }
    (kinds, wrong)
}

/// One request as it was sent once.
struct Sent {
    id: String,
    caller: usize,
    request: world::Request,
    explained: Value,
    observed: compare::Observed,
}

/// One world and its requests; the first thing that differs.
async fn play(mesh: &Mesh, number: u64, kinds: &mut Kinds) -> Option<String> {
    let mut seed = Seed::new(number);
    let callers = mesh.callers(&mut seed);
    let text = world::files(&mut seed, mesh.ports);
    let edits = Edits::of(&text);
    mesh.enter(number, &text).await;
    let mut all = Vec::new();
    for index in 0..REQUESTS {
        let caller = callers[seed.below(callers.len())];
        let request = world::request(&mut seed);
        let explained = mesh.explained(caller, &request).await;
        if index < ASKED_TWICE {
            mesh.asked_by_command(caller, &request, &explained);
        }
        let by_chance = part_of(&explained, "abort_percent") % 100.0 > 0.0;
        for chance in 0..if by_chance { CHANCES } else { 1 } {
            let id = format!("seed-{number}-request-{index}-{chance}");
            let observed = mesh.sent(caller, &request, &id).await;
            let (request, explained) = (request.clone(), explained.clone());
            all.push(Sent { id, caller, request, explained, observed });
        }
    }
    let ids: Vec<&str> = all.iter().map(|sent| &*sent.id).collect();
    let records = mesh.records(&ids).await;
    // The first tells enough: a world is long.
    all.iter().find_map(|sent| {
        let record = records.get(&sent.id).cloned().unwrap_or(Value::Null);
        let Sent { id, caller, request, explained, observed } = sent;
        let pair = Pair { request, explained, observed, record: &record, edits: &edits };
        count(&pair, kinds);
        let differ = differences(&pair, mesh.ports);
        (!differ.is_empty()).then(|| {
            format!(
                "TULLE_SEED={number}: {id} of {}: {request:?}\n  {}\nexplained: \
                 {explained:#}\nrecorded: {record:#}\nin\n{text}",
                mesh.name(*caller),
                differ.join("\n  ")
            )
        })
    })
}

fn count(pair: &Pair<'_>, kinds: &mut Kinds) {
    let end = pair.explained["end"]["is"].as_str().unwrap_or_default();
    let flags = pair.record["response_flags"].as_str().unwrap_or_default();
    let edited = !pair.observed.received["headers"][edits::FIELD].is_null();
    let by_chance = part_of(pair.explained, "abort_percent") % 100.0 > 0.0;
    let passed = by_chance && !flags.contains("FI");
    let more = [(edited, "edited by share"), (passed, "passed by chance")];
    let more = more.into_iter().filter(|(seen, _)| *seen).map(|(_, kind)| kind);
    for kind in flags.split(',').filter(|flag| *flag != "-").chain([end]).chain(more) {
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
}

/// How long something that happens at once may take.
const PATIENCE: Duration = Duration::from_secs(20);
