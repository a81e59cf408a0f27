//! The clocks of the machine, and a random seed.
//!
//! This module must not be used below a command: everything else is given the moment that it judges at.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::rules::Moment;
use crate::units;

/// The time of day. A clock that is set before 1970 counts as 1970.
#[expect(clippy::disallowed_methods, reason = "the only place that reads the time of day")]
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    units::moment_after_epoch(since.unwrap_or_default())
}

/// The steady clock (`CLOCK_BOOTTIME`): the time since the machine started. It counts while the machine
/// sleeps, and it is never set.
pub fn steady() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(secs, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A random number, different on each machine and at each start; 0 where the system has no source of
/// randomness.
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness every machine has the same delays, which is no worse than having none.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_run_forward() {
        let (wall, steady_before) = (now(), steady());
        assert!(wall.unix_secs() > 1_700_000_000, "{wall:?}");
        assert!(steady() >= steady_before && !steady_before.is_zero());
    }

    #[test]
    fn the_steady_clock_counts_the_sleep_of_the_machine_as_its_uptime_does() {
        // The kernel's own reading of the same clock, in hundredths of a second (proc(5)).
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let secs: f64 = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_secs_f64(secs)
        };
        let (before, now, after) = (uptime(), steady(), uptime());
        let rounding = Duration::from_millis(10);
        assert!(before <= now && now <= after + rounding, "{before:?} {now:?} {after:?}");
    }
}
