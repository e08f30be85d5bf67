//! Which endpoint takes a request: priorities, health and panic, localities, then the policy.
//!
//! A [`Balancer`] is made anew whenever endpoints or their health change. What it decides is
//! what Envoy decides; the tables of [`ring`] and [`maglev`] are the same, entry for entry.
//! Reference: Envoy "Load balancing" (priority levels, panic threshold, locality weighted).

mod edf;
pub mod maglev;
mod picker;
pub mod priority;
pub mod ring;

use std::num::NonZeroU32;

use crate::cluster::LbPolicy;
use edf::Edf;
use picker::{Picker, Weighted};
use priority::{Availability, PriorityLoads, Tally};

/// One endpoint as the balancer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// What is hashed for it: its address.
    pub key: &'a str,
    /// Its share.
    pub weight: NonZeroU32,
    /// Lower is used first.
    pub priority: u8,
    /// Index of its locality.
    pub locality: usize,
    /// Whether it may take requests.
    pub availability: Availability,
}

/// What holds for the whole cluster.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// How one is picked.
    pub policy: &'a LbPolicy,
    /// How much healthier than needed a priority must be to take all traffic, percent.
    pub overprovisioning_percent: u32,
    /// Below this share of available endpoints health is ignored, percent.
    pub panic_threshold_percent: u32,
    /// Weight of each locality; `None` is no locality weighting.
    pub locality_weights: &'a [Option<NonZeroU32>],
    /// Where turns begin: random, so that proxies do not march in step.
    pub seed: u64,
}

/// What is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// The hash of what the route says, if it says anything.
    pub hash: Option<u64>,
    /// Any number.
    pub random: u64,
    /// Which choice this is for the same request, from zero; another may be another endpoint.
    pub choice: u32,
}

/// Picks endpoints.
#[derive(Clone, Debug)]
pub struct Balancer {
    loads: PriorityLoads,
    levels: Vec<Level>,
    hashes: bool,
}

/// One priority.
#[derive(Clone, Debug, Default)]
struct Level {
    /// Everybody, when health is ignored.
    all: Group,
    healthy: Group,
    degraded: Group,
}

/// Endpoints that are picked from together.
#[derive(Clone, Debug, Default)]
struct Group {
    /// Localities to choose from first; empty for no locality weighting.
    localities: Option<(Edf, Vec<Picker>)>,
    flat: Picker,
}

impl Balancer {
    /// A balancer over `hosts`; picks are indices into them.
    #[must_use]
    pub fn new(settings: &Settings<'_>, hosts: &[Host<'_>]) -> Self {
        let levels = hosts.iter().map(|host| usize::from(host.priority) + 1).max().unwrap_or(0);
        let mut tallies = vec![Tally::default(); levels];
        for host in hosts {
            tallies[usize::from(host.priority)].add(host.availability);
        }
        let loads = PriorityLoads::new(
            &tallies,
            settings.overprovisioning_percent,
            settings.panic_threshold_percent,
        );
        let level = |index| Level::new(settings, hosts, index, loads.is_panic(index));
        let levels = (0..levels).map(level).collect();
        Self { loads, levels, hashes: hashes(settings.policy) }
    }

    /// One of the hosts, or `None` if none may take a request. `active` tells the requests
    /// under way at a host.
    pub fn pick(&mut self, pick: Pick, active: impl Fn(usize) -> u64) -> Option<usize> {
        let mut random = Random(pick.random);
        let hash = pick.hash.filter(|_| self.hashes).unwrap_or_else(|| random.next());
        let (level, availability) = self.loads.choose(hash);
        let is_panic = self.loads.is_panic(level);
        let level = self.levels.get_mut(level)?;
        let group = match availability {
            _ if is_panic => &mut level.all,
            Availability::Degraded => &mut level.degraded,
            _ => &mut level.healthy,
        };
        group.pick(hash, pick.choice, &mut random, &active)
    }

    /// The share of requests that each priority takes, percent, healthy and degraded; and
    /// whether health is ignored in it.
    #[must_use]
    pub fn loads(&self) -> &PriorityLoads {
        &self.loads
    }
}

impl Level {
    fn new(settings: &Settings<'_>, hosts: &[Host<'_>], index: usize, is_panic: bool) -> Self {
        let group = |wanted: &dyn Fn(Availability) -> bool| {
            let here = |host: &Host<'_>| usize::from(host.priority) == index;
            let chosen = hosts.iter().enumerate();
            let chosen = chosen.filter(|(_, host)| here(host) && wanted(host.availability));
            let everybody = hosts.iter().filter(|host| here(host));
            Group::new(settings, &chosen.collect::<Vec<_>>(), &everybody.collect::<Vec<_>>())
        };
        if is_panic {
            return Self { all: group(&|_| true), ..Self::default() };
        }
        Self {
            all: Group::default(),
            healthy: group(&|availability| availability == Availability::Healthy),
            degraded: group(&|availability| availability == Availability::Degraded),
        }
    }
}

impl Group {
    fn new(settings: &Settings<'_>, chosen: &[(usize, &Host<'_>)], all: &[&Host<'_>]) -> Self {
        let is_weighted = all.iter().any(|host| weight_of(settings, host.locality).is_some());
        let everybody: Vec<_> = chosen.iter().map(|(index, host)| weighted(*index, host)).collect();
        if !is_weighted || everybody.is_empty() {
            return Self { localities: None, flat: Picker::new(settings, &everybody) };
        }
        let localities = localities(settings, chosen, all);
        if hashes(settings.policy) {
            // One table for all localities, in which their weights are part of the shares.
            let shares = localities.iter().flat_map(|(_, locality, members)| {
                let total: f64 = members.iter().map(|member| member.weight).sum();
                members.iter().map(move |one| one.scaled(locality / total)).collect::<Vec<_>>()
            });
            let shares: Vec<_> = shares.collect();
            return Self { localities: None, flat: Picker::new(settings, &shares) };
        }
        let weights: Vec<f64> = localities.iter().map(|(effective, _, _)| *effective).collect();
        let pickers = localities.iter().map(|(_, _, members)| Picker::new(settings, members));
        let pickers: Vec<_> = pickers.collect();
        if pickers.is_empty() {
            return Self { localities: None, flat: Picker::new(settings, &everybody) };
        }
        Self { localities: Some((Edf::new(&weights, settings.seed), pickers)), ..Self::default() }
    }

    fn pick(
        &mut self,
        hash: u64,
        choice: u32,
        random: &mut Random,
        active: &impl Fn(usize) -> u64,
    ) -> Option<usize> {
        let picker = match &mut self.localities {
            None => &mut self.flat,
            Some((turns, pickers)) => pickers.get_mut(turns.pick(|_| 1.0)?)?,
        };
        picker.pick(hash, choice, random, active)
    }
}

fn hashes(policy: &LbPolicy) -> bool {
    matches!(policy, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. })
}

fn weight_of(settings: &Settings<'_>, locality: usize) -> Option<f64> {
    settings.locality_weights.get(locality).copied().flatten().map(|weight| weight.get().into())
}

fn weighted(index: usize, host: &Host<'_>) -> Weighted {
    Weighted { index, weight: host.weight.get().into(), key: host.key.into() }
}

/// Localities with a weight and somebody in them: effective weight (less where part of the
/// locality is not available, Envoy's `effectiveLocalityWeight`), weight, members.
fn localities(
    settings: &Settings<'_>,
    chosen: &[(usize, &Host<'_>)],
    all: &[&Host<'_>],
) -> Vec<(f64, f64, Vec<Weighted>)> {
    let mut found = Vec::new();
    for locality in 0..settings.locality_weights.len() {
        let members = chosen.iter().filter(|(_, host)| host.locality == locality);
        let members: Vec<_> = members.map(|(index, host)| weighted(*index, host)).collect();
        let total = all.iter().filter(|host| host.locality == locality).count();
        if let Some(weight) = weight_of(settings, locality).filter(|_| !members.is_empty()) {
            let available = members.len() as f64 / total as f64;
            let factor = f64::from(settings.overprovisioning_percent) / 100.0;
            found.push((weight * (available * factor).min(1.0), weight, members));
        }
    }
    found
}

/// A sequence of numbers from one (SplitMix64).
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests;
