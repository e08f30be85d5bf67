//! How requests are shared among priorities, and when health is ignored.
//!
//! Reference: Envoy "Priority levels", "Degraded endpoints", "Panic threshold".

/// Whether an endpoint may take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Availability {
    /// Yes.
    Healthy,
    /// If healthy ones do not suffice.
    Degraded,
    /// Only when health is ignored.
    Unavailable,
}

/// The endpoints of one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Healthy ones.
    pub healthy: usize,
    /// Degraded ones.
    pub degraded: usize,
    /// All of them.
    pub total: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, availability: Availability) {
        self.total += 1;
        match availability {
            Availability::Healthy => self.healthy += 1,
            Availability::Degraded => self.degraded += 1,
            Availability::Unavailable => {}
        }
    }

    /// The share of `count` in percent, `overprovisioning` times, at most 100.
    fn share(self, count: usize, overprovisioning_percent: u32) -> u32 {
        let scaled = (count as u64).saturating_mul(overprovisioning_percent.into());
        scaled.checked_div(self.total as u64).unwrap_or(0).min(100) as u32
    }

    fn is_panic(self, threshold_percent: u32) -> bool {
        let available = 100 * (self.healthy + self.degraded) as u64;
        self.total == 0 && threshold_percent > 0
            || available < u64::from(threshold_percent) * self.total as u64
    }
}

/// The share of each priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorityLoads {
    /// Percent for healthy endpoints.
    pub healthy: Vec<u32>,
    /// Percent for degraded endpoints.
    pub degraded: Vec<u32>,
    panic: Vec<bool>,
}

impl PriorityLoads {
    /// The shares for priorities counted so.
    #[must_use]
    pub fn new(levels: &[Tally], overprovisioning_percent: u32, panic_percent: u32) -> Self {
        let share = |count: fn(&Tally) -> usize| {
            levels.iter().map(move |level| level.share(count(level), overprovisioning_percent))
        };
        let healthy: Vec<u32> = share(|level| level.healthy).collect();
        let degraded: Vec<u32> = share(|level| level.degraded).collect();
        let total = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut loads = Self {
            healthy: vec![0; levels.len()],
            degraded: vec![0; levels.len()],
            panic: vec![false; levels.len()],
        };
        if levels.is_empty() {
            return loads;
        }
        if total > 0 {
            let rest = distribute(&mut loads.healthy, &healthy, 100, total);
            let rest = distribute(&mut loads.degraded, &degraded, rest, total);
            let loads_of_first = [(&mut loads.healthy, &healthy), (&mut loads.degraded, &degraded)];
            for (load, share) in loads_of_first {
                if let Some(first) = share.iter().position(|share| *share > 0) {
                    load[first] += rest;
                    break;
                }
            }
        }
        let panic_percent = panic_percent.min(100);
        if panic_percent == 0 && total == 0 {
            loads.healthy[0] = 100;
            return loads;
        }
        for (panic, level) in loads.panic.iter_mut().zip(levels) {
            *panic = total < 100 && level.is_panic(panic_percent);
        }
        if loads.panic.iter().all(|panic| *panic) {
            loads.share_by_size(levels);
        }
        loads
    }

    /// When every priority ignores health, they take requests by their size.
    fn share_by_size(&mut self, levels: &[Tally]) {
        let total: usize = levels.iter().map(|level| level.total).sum();
        let Some(first) = levels.iter().position(|level| level.total > 0) else {
            self.healthy[0] = 100;
            return;
        };
        let mut rest = 100;
        for (load, level) in self.healthy.iter_mut().zip(levels) {
            *load = (100 * level.total / total) as u32;
            rest -= *load;
        }
        self.healthy[first] += rest;
        self.degraded.fill(0);
    }

    /// Whether health is ignored in a priority.
    #[must_use]
    pub fn is_panic(&self, level: usize) -> bool {
        self.panic.get(level).copied().unwrap_or(false)
    }

    /// The priority for `hash`, and whether its healthy or its degraded endpoints.
    #[must_use]
    pub fn choose(&self, hash: u64) -> (usize, Availability) {
        let point = (hash % 100) as u32 + 1;
        let mut sum = 0;
        let loads =
            [(&self.healthy, Availability::Healthy), (&self.degraded, Availability::Degraded)];
        for (loads, availability) in loads {
            for (level, load) in loads.iter().enumerate() {
                sum += load;
                if point <= sum {
                    return (level, availability);
                }
            }
        }
        (0, Availability::Healthy)
    }
}

/// Shares out `rest` of the load by `shares` of `total`; what is left is given back.
fn distribute(loads: &mut [u32], shares: &[u32], mut rest: u32, total: u32) -> u32 {
    for (load, share) in loads.iter_mut().zip(shares) {
        *load = rest.min(share * 100 / total);
        rest -= *load;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(healthy: usize, degraded: usize, total: usize) -> Tally {
        Tally { healthy, degraded, total }
    }

    fn check(levels: &[Tally], panic: u32, healthy: &[u32], degraded: &[u32], panics: &[bool]) {
        let loads = PriorityLoads::new(levels, 140, panic);
        assert_eq!(
            (&*loads.healthy, &*loads.degraded, &*loads.panic),
            (healthy, degraded, panics),
            "{levels:?}"
        );
    }

    /// The tables of Envoy's documentation (priority levels, degraded endpoints, panic).
    #[test]
    fn shares_are_those_of_envoys_documentation() {
        let two = |first, second| [level(first, 0, 100), level(second, 0, 100)];
        check(&two(100, 100), 0, &[100, 0], &[0, 0], &[false, false]);
        check(&two(72, 72), 0, &[100, 0], &[0, 0], &[false, false]);
        check(&two(71, 71), 0, &[99, 1], &[0, 0], &[false, false]);
        check(&two(50, 50), 0, &[70, 30], &[0, 0], &[false, false]);
        check(&two(25, 100), 0, &[35, 65], &[0, 0], &[false, false]);
        check(&two(25, 25), 0, &[50, 50], &[0, 0], &[false, false]);
        let three = [level(20, 0, 100); 3];
        check(&three, 0, &[34, 33, 33], &[0, 0, 0], &[false; 3]);
        check(&[level(5, 5, 10)], 50, &[70], &[30], &[false]);
        check(&[level(0, 10, 10)], 50, &[0], &[100], &[false]);
        check(&[level(0, 0, 10)], 0, &[100], &[0], &[false]);
    }

    #[test]
    fn panic_ignores_health_where_too_little_is_left() {
        check(&[level(1, 0, 10)], 50, &[100], &[0], &[true]);
        check(&[level(5, 0, 10)], 50, &[100], &[0], &[false]);
        check(&[level(1, 0, 10), level(10, 0, 10)], 50, &[14, 86], &[0, 0], &[false, false]);
        check(&[level(1, 0, 10), level(4, 0, 10)], 50, &[50, 50], &[0, 0], &[true, true]);
        check(&[level(0, 0, 30), level(0, 0, 10)], 50, &[75, 25], &[0, 0], &[true, true]);
        check(&[level(0, 0, 0)], 50, &[100], &[0], &[true]);
        check(&[], 50, &[], &[], &[]);
    }

    #[test]
    fn every_point_finds_its_share() {
        let levels = [level(5, 2, 10), level(1, 0, 10)];
        let loads = PriorityLoads::new(&levels, 140, 0);
        let count = |wanted| (0..100).filter(|hash| loads.choose(*hash) == wanted).count() as u32;
        assert_eq!(count((0, Availability::Healthy)), loads.healthy[0]);
        assert_eq!(count((1, Availability::Healthy)), loads.healthy[1]);
        assert_eq!(count((0, Availability::Degraded)), loads.degraded[0]);
    }
}
