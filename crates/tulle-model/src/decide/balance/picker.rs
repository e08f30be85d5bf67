//! One policy over one group of endpoints.

use super::edf::Edf;
use super::maglev::MaglevTable;
use super::ring::Ring;
use super::{Random, Settings};
use crate::cluster::LbPolicy;

/// A member of a group.
#[derive(Clone, Debug)]
pub(super) struct Weighted {
    /// Which host it is.
    pub(super) index: usize,
    pub(super) weight: f64,
    /// What is hashed for it.
    pub(super) key: Box<str>,
}

impl Weighted {
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self { weight: self.weight * factor, ..self.clone() }
    }
}

/// Picks one of a group.
#[derive(Clone, Debug, Default)]
pub(super) enum Picker {
    /// Nobody is there.
    #[default]
    Nobody,
    /// In turn.
    InTurn { hosts: Vec<usize>, next: usize },
    /// In turn by weight.
    InTurnByWeight { hosts: Vec<usize>, turns: Edf },
    /// The least busy of several random ones.
    LeastBusy { hosts: Vec<usize>, choices: u32 },
    /// In turn by weight over load.
    LeastBusyByWeight { hosts: Vec<usize>, turns: Edf },
    /// At random, whatever their weights.
    Random { hosts: Vec<usize> },
    /// By hash.
    Ring { hosts: Vec<usize>, ring: Ring },
    /// By hash.
    Maglev { hosts: Vec<usize>, table: MaglevTable },
}

impl Picker {
    pub(super) fn new(settings: &Settings<'_>, members: &[Weighted]) -> Self {
        let Some(first) = members.first() else { return Self::Nobody };
        let hosts: Vec<_> = members.iter().map(|member| member.index).collect();
        let weights: Vec<_> = members.iter().map(|member| member.weight).collect();
        let are_equal = weights.iter().all(|weight| *weight == first.weight);
        let seed = settings.seed;
        match settings.policy {
            LbPolicy::RoundRobin | LbPolicy::ClusterProvided if are_equal => {
                let next = (seed % hosts.len() as u64) as usize;
                Self::InTurn { hosts, next }
            }
            LbPolicy::RoundRobin | LbPolicy::ClusterProvided => {
                Self::InTurnByWeight { hosts, turns: Edf::new(&weights, seed) }
            }
            LbPolicy::LeastRequest { choices } if are_equal => {
                Self::LeastBusy { hosts, choices: choices.get() }
            }
            LbPolicy::LeastRequest { .. } => {
                Self::LeastBusyByWeight { hosts, turns: Edf::new(&weights, seed) }
            }
            LbPolicy::Random => Self::Random { hosts },
            LbPolicy::RingHash { minimum, maximum } => {
                Self::Ring { ring: Ring::new(&shares(members), *minimum..=*maximum), hosts }
            }
            LbPolicy::Maglev { table_size } => {
                Self::Maglev { table: MaglevTable::new(&shares(members), *table_size), hosts }
            }
        }
    }

    pub(super) fn pick(
        &mut self,
        hash: u64,
        choice: u32,
        random: &mut Random,
        active: &impl Fn(usize) -> u64,
    ) -> Option<usize> {
        match self {
            Self::Nobody => None,
            Self::InTurn { hosts, next } => {
                let picked = hosts.get(*next).copied();
                *next = (*next + 1) % hosts.len();
                picked
            }
            Self::InTurnByWeight { hosts, turns } => turns.pick(|_| 1.0).map(|index| hosts[index]),
            Self::LeastBusy { hosts, choices } => {
                let mut least = hosts[random.below(hosts.len())];
                for _ in 1..*choices {
                    let other = hosts[random.below(hosts.len())];
                    if active(other) < active(least) {
                        least = other;
                    }
                }
                Some(least)
            }
            Self::LeastBusyByWeight { hosts, turns } => {
                let idleness = |index: usize| 1.0 / (active(hosts[index]) + 1) as f64;
                turns.pick(idleness).map(|index| hosts[index])
            }
            Self::Random { hosts } => hosts.get(random.below(hosts.len())).copied(),
            Self::Ring { hosts, ring } => ring.find(hash, choice).map(|index| hosts[index]),
            Self::Maglev { hosts, table } => table.find(hash, choice).map(|index| hosts[index]),
        }
    }
}

/// Keys with weights that add up to one.
fn shares(members: &[Weighted]) -> Vec<(&str, f64)> {
    let total: f64 = members.iter().map(|member| member.weight).sum();
    members.iter().map(|member| (&*member.key, member.weight / total)).collect()
}
