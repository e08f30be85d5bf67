//! The control plane is killed while its files are being replaced, truncated and half written: what
//! was accepted last serves after each restart, and the whole file once it is there.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "explain/seed.rs"]
#[expect(dead_code, reason = "other tests choose more")]
mod seed;

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seed::Seed;
use serde_json::{Value, json};
use tulle_lab::client::http1::Client;
use tulle_lab::deadline::{SOON, until};
use tulle_lab::ports::PortLease;
use tulle_lab::process::{Process, binary};

/// Kills.
const ROUNDS: u32 = 30;
/// Files, each with one object.
const FILES: usize = 8;
/// Latest time of a kill after writing began, microseconds.
const LATEST_KILL: usize = 30_000;
/// The seed, unless `TULLE_SEED` says another one.
const SEED: u64 = 7;

/// The `number`th object in its version of `round`; no part of the text is a document.
fn object(number: usize, round: u32) -> String {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": { "name": format!("service-{number}"), "namespace": "test" },
        "spec": {
            "hosts": [format!("service-{number}.test")],
            "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
            "resolution": "STATIC",
            "endpoints": [{ "address": "10.0.0.1", "labels": { "version": version(round) } }],
        },
    })
    .to_string()
}

fn version(round: u32) -> String {
    format!("round-{round}.end")
}

struct Place {
    directory: tempfile::TempDir,
    lease: PortLease,
}

impl Place {
    fn file(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("config/service-{number}.json"))
    }

    async fn control(&self) -> Process {
        let root = self.directory.path();
        let mut command = Command::new(binary("tulle-control").unwrap());
        command.args(["serve", "--config"]).arg(root.join("config"));
        command.arg("--state").arg(root.join("state"));
        command.arg(format!("--xds=unix:{}", root.join("xds.sock").display()));
        command.arg(format!("--admin={}", self.admin()));
        let mut control = Process::spawn("control", command, root).unwrap();
        control.ready(self.admin(), "/ready", SOON).await.unwrap();
        control
    }

    fn admin(&self) -> SocketAddr {
        self.lease.address()
    }

    /// How many objects are in force and what is wrong with files.
    async fn findings(&self) -> Option<Value> {
        let mut client = Client::connect(self.admin()).await.ok()?;
        let answer = client.get("127.0.0.1", "/api/v1/findings").await.ok()?;
        serde_json::from_str(&answer.text()).ok()
    }

    /// How many objects the store has in the version of `round`.
    fn stored(&self, round: u32) -> usize {
        let all = fs::read_dir(self.directory.path().join("state/objects")).unwrap();
        let texts = all.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
        texts.filter(|text| text.contains(&version(round))).count()
    }

    /// Writes every file whole, by renaming or in place.
    fn mend(&self, round: u32, seed: &mut Seed) {
        for number in 0..FILES {
            match seed.percent(50) {
                true => replace(&self.file(number), &object(number, round)),
                false => fs::write(self.file(number), object(number, round)).unwrap(),
            }
        }
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Goes on to write files badly until it is told to stop, which it does at once: whatever is half
/// done stays so.
fn tear(files: &[PathBuf], round: u32, mut seed: Seed, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let number = seed.below(files.len());
        let (path, text) = (&files[number], object(number, round));
        let cut = 1 + seed.below(text.len() - 1);
        match seed.below(3) {
            0 => replace(path, &text),
            1 => File::options().write(true).open(path).unwrap().set_len(cut as u64).unwrap(),
            _ => {
                let mut file = File::create(path).unwrap();
                file.write_all(&text.as_bytes()[..cut]).unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                file.write_all(&text.as_bytes()[cut..]).unwrap();
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how a failure is played again")]
fn chosen_seed() -> u64 {
    std::env::var("TULLE_SEED").map_or(SEED, |text| text.parse().unwrap())
}

#[tokio::test]
async fn nothing_is_lost_by_kills_among_half_written_files() {
    let number = chosen_seed();
    println!("TULLE_SEED={number}");
    let mut seed = Seed::new(number);
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("config")).unwrap();
    let place = Place { directory, lease: PortLease::take().unwrap() };
    place.mend(0, &mut seed);
    let mut torn = 0;
    for round in 0..ROUNDS {
        let mut control = place.control().await;
        let told = place.findings().await.unwrap();
        let all = (&told["objects"], round);
        assert_eq!(all, (&FILES.into(), round), "lost: {told:#}\n{}", control.tail());
        torn += usize::from(!told["findings"].as_array().unwrap().is_empty());

        place.mend(round, &mut seed);
        let whole = until("whole files in force", SOON, || async {
            let told = place.findings().await?;
            let good = told["findings"] == json!([]) && told["outdated"] == json!([]);
            (good && told["objects"] == FILES && place.stored(round) == FILES).then_some(())
        });
        whole.await.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", control.tail()));

        let stop = Arc::new(AtomicBool::new(false));
        let files: Vec<PathBuf> = (0..FILES).map(|number| place.file(number)).collect();
        let (told, tearing) = (Arc::clone(&stop), Seed::new(number ^ u64::from(round) << 32));
        let writer = std::thread::spawn(move || tear(&files, round + ROUNDS, tearing, &told));
        // The moment of the kill is what the seed chooses.
        tokio::time::sleep(Duration::from_micros(seed.below(LATEST_KILL) as u64)).await;
        control.kill();
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
    assert!(torn > ROUNDS as usize / 3, "only {torn} restarts found a torn file");
}
