//! Stands back for everybody else on the machine.
//!
//! It must not slow a pass on an idle machine: it asks the system to serve others first, and how much
//! may be removed in a second is another matter (see [`crate::stop`]).

use ioprio::{Class, Pid, Priority, Target};

/// The lowest there is, of `setpriority(2)`.
const LOWEST: i32 = 19;

/// Gives this thread, and every one that it starts from now on, the lowest priority at the processors
/// and the idle class at the disks (`ioprio_set(2)`; schedulers like bfq heed it).
///
/// # Errors
/// What the system refused, in words. The other may have been granted.
pub fn stand_back() -> Result<(), String> {
    let thread = Target::Process(Pid::from_raw(0));
    let disks = ioprio::set_priority(thread, Priority::new(Class::Idle))
        .map_err(|error| format!("the idle class at the disks: {error}"));
    let processors = rustix::process::nice(LOWEST)
        .map_err(|error| format!("the lowest priority at the processors: {error}"));
    disks.and(processors.map(drop))
}
