use std::collections::HashMap;

use proptest::prelude::*;

use super::maglev::MaglevTable;
use super::ring::Ring;
use super::*;

const ONE: NonZeroU32 = NonZeroU32::MIN;

fn weight(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

fn host(key: &str) -> Host<'_> {
    Host { key, weight: ONE, priority: 0, locality: 0, availability: Availability::Healthy }
}

fn settings<'a>(policy: &'a LbPolicy, weights: &'a [Option<NonZeroU32>]) -> Settings<'a> {
    Settings {
        policy,
        overprovisioning_percent: 140,
        panic_threshold_percent: 50,
        locality_weights: weights,
        seed: 0,
    }
}

fn balancer(policy: &LbPolicy, hosts: &[Host<'_>]) -> Balancer {
    Balancer::new(&settings(policy, &[None]), hosts)
}

/// How often each host was picked in `count` picks.
fn picks(
    balancer: &mut Balancer,
    count: u64,
    active: impl Fn(usize) -> u64,
) -> HashMap<usize, u64> {
    let mut picked = HashMap::new();
    for random in 0..count {
        let pick = Pick { hash: None, random, choice: 0 };
        *picked.entry(balancer.pick(pick, &active).expect("a host")).or_default() += 1;
    }
    picked
}

/// Whether each share is within `tolerance` of what its weight says.
fn fits(picked: &HashMap<usize, u64>, weights: &[u32], tolerance: f64) -> bool {
    let (total, sum) = (picked.values().sum::<u64>() as f64, weights.iter().sum::<u32>() as f64);
    weights.iter().enumerate().all(|(index, weight)| {
        let share = picked.get(&index).copied().unwrap_or(0) as f64 / total;
        (share - f64::from(*weight) / sum).abs() <= tolerance
    })
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("10.0.{}.{}:80", number / 256, number % 256)).collect()
}

fn hosts(keys: &[String]) -> Vec<Host<'_>> {
    keys.iter().map(|key| host(key)).collect()
}

fn least_request(choices: u32) -> LbPolicy {
    LbPolicy::LeastRequest { choices: weight(choices) }
}

#[test]
fn everybody_has_their_turn() {
    let keys = keys(3);
    let mut balancer = balancer(&LbPolicy::RoundRobin, &hosts(&keys));
    let turns: Vec<_> = (0..6)
        .map(|_| balancer.pick(Pick { hash: None, random: 0, choice: 0 }, |_| 0).expect("one"))
        .collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn turns_by_weight_are_spread() {
    let keys = keys(2);
    let mut hosts = hosts(&keys);
    hosts[0].weight = weight(3);
    let mut balancer = balancer(&LbPolicy::RoundRobin, &hosts);
    let turn = |_| balancer.pick(Pick { hash: None, random: 0, choice: 0 }, |_| 0).expect("one");
    let turns: Vec<_> = (0..8).map(turn).collect();
    assert_eq!(turns.iter().filter(|index| **index == 1).count(), 2);
    assert!(turns.windows(5).all(|five| five.contains(&1)), "{turns:?}");
}

#[test]
fn the_less_busy_of_two_takes_it() {
    let keys = keys(4);
    let mut balancer = balancer(&least_request(2), &hosts(&keys));
    let picked = picks(&mut balancer, 10_000, |index| if index == 0 { 100 } else { 1 });
    // Only when both choices fall on it.
    assert!((400..900).contains(&picked[&0]), "{picked:?}");
    let mut all = Balancer::new(&settings(&least_request(100), &[None]), &hosts(&keys));
    assert!(!picks(&mut all, 1_000, |index| u64::from(index == 0)).contains_key(&0));
}

#[test]
fn at_random_everybody_has_the_same_chance_whatever_their_weight() {
    let keys = keys(4);
    let mut hosts = hosts(&keys);
    hosts[1].weight = weight(1000);
    let mut balancer = balancer(&LbPolicy::Random, &hosts);
    let picked = picks(&mut balancer, 20_000, |_| 0);
    assert!(fits(&picked, &[1, 1, 1, 1], 0.02), "{picked:?}");
}

#[test]
fn weights_count_over_load() {
    let keys = keys(2);
    let mut hosts = hosts(&keys);
    hosts[0].weight = weight(4);
    // Four times the weight and four times the load is the same.
    let mut balancer = balancer(&least_request(2), &hosts);
    let picked = picks(&mut balancer, 10_000, |index| if index == 0 { 3 } else { 0 });
    assert!(fits(&picked, &[1, 1], 0.01), "{picked:?}");
}

/// The positions that Envoy's own test of its ring states for these hosts.
#[test]
fn the_ring_is_envoys() {
    let keys: Vec<_> = (90..96).map(|port| format!("127.0.0.1:{port}")).collect();
    let shares: Vec<_> = keys.iter().map(|key| (&**key, 1.0 / 6.0)).collect();
    let ring = Ring::new(&shares, 12..=8_388_608);
    assert_eq!(ring.len(), 12);
    let stated: [(u64, usize); 12] = [
        (833_437_586_790_550_860, 4),
        (928_266_305_478_181_108, 2),
        (1_033_482_794_131_418_490, 0),
        (3_551_244_743_356_806_947, 5),
        (3_851_675_632_748_031_481, 3),
        (5_583_722_120_771_150_861, 1),
        (6_311_230_543_546_372_928, 1),
        (7_700_377_290_971_790_572, 3),
        (13_144_177_310_400_110_813, 5),
        (13_444_792_449_719_432_967, 2),
        (15_516_499_411_664_133_160, 4),
        (16_117_243_373_044_804_889, 0),
    ];
    for (position, owner) in stated {
        assert_eq!(ring.find(position, 0), Some(owner), "at {position}");
    }
    assert_eq!((ring.find(0, 0), ring.find(u64::MAX, 0)), (Some(4), Some(4)));
    assert_eq!(
        (ring.find(0, 1), ring.find(0, 2), ring.find(u64::MAX, 2)),
        (Some(2), Some(0), Some(0))
    );
}

#[test]
fn the_maglev_table_is_envoys() {
    let keys: Vec<_> = (90..96).map(|port| format!("127.0.0.1:{port}")).collect();
    let shares: Vec<_> = keys.iter().map(|key| (&**key, 1.0 / 6.0)).collect();
    let table = MaglevTable::new(&shares, 7);
    let owners: Vec<_> = (0..7).map(|hash| table.find(hash, 0).expect("full")).collect();
    assert_eq!(owners, [2, 4, 0, 1, 5, 0, 3]);
}

#[test]
fn nobody_can_be_picked_from_nobody() {
    let pick = Pick { hash: Some(1), random: 1, choice: 0 };
    let ring = LbPolicy::RingHash { minimum: 10, maximum: 100 };
    let maglev = LbPolicy::Maglev { table_size: 7 };
    for policy in [LbPolicy::RoundRobin, LbPolicy::Random, least_request(2), ring, maglev] {
        assert_eq!(balancer(&policy, &[]).pick(pick, |_| 0), None);
        let mut sick = host("a");
        sick.availability = Availability::Unavailable;
        let mut settings = settings(&policy, &[None]);
        assert_eq!(Balancer::new(&settings, &[sick]).pick(pick, |_| 0), Some(0), "panic");
        settings.panic_threshold_percent = 0;
        assert_eq!(Balancer::new(&settings, &[sick]).pick(pick, |_| 0), None);
    }
}

#[test]
fn localities_take_their_share_and_less_when_they_are_sick() {
    let keys = keys(4);
    let mut hosts = hosts(&keys);
    for (index, host) in hosts.iter_mut().enumerate() {
        host.locality = index / 2;
    }
    let weights = [Some(weight(1)), Some(weight(3))];
    let policy = LbPolicy::RoundRobin;
    let mut settings = settings(&policy, &weights);
    settings.overprovisioning_percent = 100;
    let picked = picks(&mut Balancer::new(&settings, &hosts), 4_000, |_| 0);
    assert!(fits(&picked, &[1, 1, 3, 3], 0.01), "{picked:?}");
    // Half of the second is gone: 1 : 1.5.
    hosts[3].availability = Availability::Unavailable;
    let picked = picks(&mut Balancer::new(&settings, &hosts), 5_000, |_| 0);
    assert!(fits(&picked, &[2, 2, 6, 0], 0.01), "{picked:?}");
}

#[test]
fn the_second_priority_helps_when_the_first_is_sick() {
    let keys = keys(4);
    let mut hosts = hosts(&keys);
    hosts[2].priority = 1;
    hosts[3].priority = 1;
    let policy = LbPolicy::RoundRobin;
    assert!(!picks(&mut balancer(&policy, &hosts), 1_000, |_| 0).contains_key(&2));
    hosts[0].availability = Availability::Unavailable;
    let picked = picks(&mut balancer(&policy, &hosts), 20_000, |_| 0);
    assert!(fits(&picked, &[0, 70, 15, 15], 0.02), "{picked:?}");
}

/// Of the hashes in `sample`, how many go to another host than before, though theirs is there.
fn moved(before: impl Fn(u64) -> usize, after: impl Fn(u64) -> usize, gone: usize) -> usize {
    let sample = (0..4_000u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    sample.filter(|hash| before(*hash) != gone && before(*hash) != after(*hash)).count()
}

fn shares(keys: &[String]) -> Vec<(&str, f64)> {
    keys.iter().map(|key| (&**key, 1.0 / keys.len() as f64)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(1u32..20, 1..12), seed: u64) {
        let keys = keys(weights.len());
        let mut hosts = hosts(&keys);
        for (host, number) in hosts.iter_mut().zip(&weights) {
            host.weight = weight(*number);
        }
        let ring = LbPolicy::RingHash { minimum: 65_536, maximum: 8 << 20 };
        let maglev = LbPolicy::Maglev { table_size: MaglevTable::SIZE };
        for policy in [LbPolicy::RoundRobin, ring, maglev] {
            let settings = Settings { seed, ..settings(&policy, &[None]) };
            let picked = picks(&mut Balancer::new(&settings, &hosts), 20_000, |_| 0);
            prop_assert!(fits(&picked, &weights, 0.025), "{policy:?} {weights:?} {picked:?}");
        }
        // With nothing under way least request is round robin by weight.
        let policy = least_request(2);
        let settings = Settings { seed, ..settings(&policy, &[None]) };
        let picked = picks(&mut Balancer::new(&settings, &hosts), 20_000, |_| 0);
        prop_assert!(fits(&picked, &weights, 0.025), "{weights:?} {picked:?}");
    }

    #[test]
    fn a_ring_moves_only_what_it_must(count in 2usize..20, gone in 0usize..20) {
        let (keys, gone) = (keys(count), gone % count);
        let mut rest = keys.clone();
        rest.remove(gone);
        // The same points for each host, before and after.
        let before = Ring::new(&shares(&keys), (100 * count as u64)..=8_388_608);
        let after = Ring::new(&shares(&rest), (100 * (count as u64 - 1))..=8_388_608);
        let find = |hash| after.find(hash, 0).map(|index| index + usize::from(index >= gone));
        let before = |hash| before.find(hash, 0).expect("one");
        let moved = moved(before, |hash| find(hash).expect("one"), gone);
        prop_assert_eq!(moved, 0);
    }

    #[test]
    fn a_maglev_table_moves_little_more_than_it_must(count in 3usize..20, gone in 0usize..20) {
        let (keys, gone) = (keys(count), gone % count);
        let mut rest = keys.clone();
        rest.remove(gone);
        let before = MaglevTable::new(&shares(&keys), MaglevTable::SIZE);
        let after = MaglevTable::new(&shares(&rest), MaglevTable::SIZE);
        let find = |hash| after.find(hash, 0).map(|index| index + usize::from(index >= gone));
        let before = |hash| before.find(hash, 0).expect("one");
        let moved = moved(before, |hash| find(hash).expect("one"), gone);
        prop_assert!(moved < 4_000 / 10, "{moved} of 4000");
    }

    #[test]
    fn loads_add_up(
        levels in prop::collection::vec((0usize..5, 0usize..5, 0usize..5), 1..5),
        panic in 0u32..=100,
    ) {
        let tallies = levels.iter().map(|(healthy, degraded, sick)| priority::Tally {
            healthy: *healthy,
            degraded: *degraded,
            total: healthy + degraded + sick,
        });
        let loads = PriorityLoads::new(&tallies.collect::<Vec<_>>(), 140, panic);
        prop_assert_eq!(loads.healthy.iter().chain(&loads.degraded).sum::<u32>(), 100);
    }
}
