//! Waiting for other processes. No test measures the speed of a machine: its limits only tell a wait that ends from
//! one that does not.

use std::time::{Duration, Instant};

/// How long a test waits for what must happen. It only ends a test that would hang.
pub const LIMIT: Duration = Duration::from_secs(120);

/// How long a program that is told to end may take: far longer than it needs on a busy machine, and far shorter than
/// what it was waiting for.
pub const AT_ONCE: Duration = Duration::from_secs(10);

/// Waits for a condition.
#[track_caller]
pub fn wait_until(what: &str, mut is_met: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_met() {
        assert!(start.elapsed() < LIMIT, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
