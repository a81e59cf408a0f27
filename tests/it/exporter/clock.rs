//! The clock that leases are measured by.

use std::process::Command;
use std::time::Duration;

use retention_sweeper::os::clock::steady;
use rustix::time::{ClockId, clock_gettime};

use crate::start::Start;
use crate::world::can_be_root;

/// How long the machine has slept in the namespace, in seconds.
const SLEPT: u64 = 1_000_000;
const INSIDE: &str = "SWEEPER_TESTS_SLEPT";

/// The server counts on while this machine sleeps.
#[test]
fn leases_end_by_a_clock_that_counts_the_sleep_of_the_machine() {
    if std::env::var_os(INSIDE).is_some() {
        let awake = clock_gettime(ClockId::Monotonic);
        let awake = Duration::from_secs(u64::try_from(awake.tv_sec).unwrap());
        assert!(steady() >= awake + Duration::from_secs(SLEPT));
        return;
    }
    if !can_be_root("a machine that has slept") {
        return;
    }
    // In a time namespace, the test runs itself.
    let mut command = Command::new("unshare");
    command.args(["--time", "--fork", "--boottime", &SLEPT.to_string()]);
    command.arg(std::env::current_exe().unwrap());
    let name = "exporter::clock::leases_end_by_a_clock_that_counts_the_sleep_of_the_machine";
    let output = command.args(["--exact", name]).env(INSIDE, "1").finish().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
