//! The lowest priority that the system offers.
//!
//! This module must not slow a pass on an idle machine: it only asks the system to serve other processes first.
//! The rate limit of removals is set elsewhere.

use ioprio::{Class, Pid, Priority, Target};

/// The lowest priority of `setpriority(2)`.
const LOWEST: i32 = 19;

/// Gives this thread, and every thread that it starts from now on, the lowest CPU priority and the idle
/// I/O class (`ioprio_set(2)`, which takes effect with I/O schedulers such as bfq).
///
/// # Errors
/// What the system refused, for people. The other of the two may have been granted.
pub fn lower() -> Result<(), String> {
    let thread = Target::Process(Pid::from_raw(0));
    let io = ioprio::set_priority(thread, Priority::new(Class::Idle))
        .map_err(|error| format!("the idle I/O class: {error}"));
    let cpu =
        rustix::process::nice(LOWEST).map_err(|error| format!("the lowest CPU priority: {error}"));
    io.and(cpu.map(drop))
}
