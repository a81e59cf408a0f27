//! A model of the protocol of the exporter's lock: every interleaving of an exporter, a downloader, CVAT's own
//! cleaner and two sweepers over one file, with leases that expire and processes that stall at any step.
//!
//! What always holds, even when processes stall:
//! - a file that was published before a sweeper took the lock is never removed by it;
//! - no process deletes the token of another;
//! - no file is removed more often than it was published.
//!
//! What holds unless a process acts on an expired lease, or the server is restarted and forgets all locks: a
//! file that was published under a valid lock is never removed by a sweeper. **The window** that remains is one
//! step wide, between a sweeper's check of its lease and its unlink. The checker must find a fresh file that is
//! lost through it: a model without the window would not be one of this program (there is no fencing token, and
//! no conditional unlink). The restart is the other one. By asking the server again, the program makes that a
//! tenth of a second wide, and the time of one answer.

use stateright::{Checker, Model, Property};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum File {
    Absent,
    Expired,
    Fresh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    /// Publishes a file, and publishes it again or sets its times.
    Exporter,
    /// Checks under the lock that the file exists.
    Downloader,
    /// CVAT's own: takes the lock, looks, and unlinks. It never checks whether its lease has expired.
    Cleaner,
    /// Ours.
    Sweeper,
}

/// How much of a lease is left. A sweeper acts only on one that is `Valid`: the time between that and its end on
/// the server allows for clock drift, with a reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Lease {
    None,
    Valid,
    Ending,
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Look,
    Take,
    LookAgain,
    CheckLease,
    Act,
    Release,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    role: Role,
    at: At,
    lease: Lease,
    /// Its attempts so far. A token is a process and an attempt.
    attempt: u8,
    /// A file was published since it took the lock.
    published_since: bool,
    rounds_left: u8,
}

#[expect(clippy::struct_excessive_bools, reason = "one for each fact that the properties check")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    file: File,
    /// The key in Redis: whose token it holds.
    key: Option<(usize, u8)>,
    processes: Vec<Process>,
    published: u8,
    removed: u8,
    /// A process published or unlinked on an expired lease.
    acted_on_expired_lease: bool,
    /// A sweeper removed a fresh file, and had found its lease valid one step before.
    lost_through_the_window: bool,
    was_restarted: bool,
    lost_by_a_restart: bool,
    removed_what_was_published_before: bool,
    removed_what_was_published_under_a_lock: bool,
    deleted_the_token_of_another: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    /// A process takes its next step.
    Step(usize),
    /// Time passes for the lease of a process, at whatever step that process is.
    Time(usize),
    /// The server is restarted, once, and forgets all locks.
    Restart,
}

#[expect(clippy::struct_excessive_bools, reason = "one for each precaution that can be left out")]
struct Protocol {
    roles: Vec<Role>,
    /// Whether sweepers check their lease before the unlink, as they really do.
    sweepers_check_their_lease: bool,
    /// Likewise: whether they look again under the lock.
    sweepers_look_again: bool,
    /// Likewise: whether a release compares the token, or is a plain `DEL`.
    releases_compare: bool,
    /// Likewise: whether a file that is gone is not counted as removed.
    gone_is_not_removed: bool,
}

impl Protocol {
    fn real(roles: &[Role]) -> Self {
        Self {
            roles: roles.to_owned(),
            sweepers_check_their_lease: true,
            sweepers_look_again: true,
            releases_compare: true,
            gone_is_not_removed: true,
        }
    }

    fn take(world: &mut World, who: usize, next: At) {
        if world.key.is_none() {
            let process = &mut world.processes[who];
            process.attempt += 1;
            process.lease = Lease::Valid;
            process.published_since = false;
            process.at = next;
            world.key = Some((who, process.attempt));
        } else if world.processes[who].role == Role::Sweeper {
            // Locked. Its second try is the same as that of a sweeper that begins later.
            world.processes[who].at = At::Done;
        }
        // Pottery polls: its process stays at this step.
    }

    fn publish(world: &mut World, who: usize) {
        world.acted_on_expired_lease |= world.processes[who].lease == Lease::Expired;
        if world.file == File::Absent {
            world.published += 1;
        }
        world.file = File::Fresh;
        for process in &mut world.processes {
            process.published_since = true;
        }
    }

    fn unlink(&self, world: &mut World, who: usize) {
        let process = world.processes[who];
        let is_late = process.lease == Lease::Expired;
        let is_ours = process.role == Role::Sweeper;
        if is_ours && world.file == File::Fresh {
            world.lost_through_the_window |= is_late && !world.was_restarted;
            world.lost_by_a_restart |= !is_late && world.was_restarted;
            world.removed_what_was_published_before |= !process.published_since;
            world.removed_what_was_published_under_a_lock |=
                !(world.acted_on_expired_lease || is_late || world.was_restarted);
        }
        world.acted_on_expired_lease |= is_late;
        if world.file != File::Absent || (is_ours && !self.gone_is_not_removed) {
            world.removed += 1;
        }
        world.file = File::Absent;
    }

    fn release(&self, world: &mut World, who: usize) {
        let ours = Some((who, world.processes[who].attempt));
        if world.key == ours || (!self.releases_compare && world.key.is_some()) {
            world.deleted_the_token_of_another |= world.key != ours;
            world.key = None;
        }
        let process = &mut world.processes[who];
        process.lease = Lease::None;
        process.rounds_left -= 1;
        process.at = if process.rounds_left > 0 { At::Take } else { At::Done };
    }

    fn step(&self, world: &mut World, who: usize) {
        let Process { role, at, lease, .. } = world.processes[who];
        let mut go = |next| world.processes[who].at = next;
        match (role, at) {
            (_, At::Done) => {}
            (_, At::Release) => self.release(world, who),
            // The first look, without a lock: only what has expired is claimed.
            (_, At::Look) => go(if world.file == File::Expired { At::Take } else { At::Done }),
            (Role::Exporter | Role::Downloader, At::Take) => Self::take(world, who, At::Act),
            (Role::Cleaner, At::Take) => Self::take(world, who, At::LookAgain),
            (Role::Sweeper, At::Take) => {
                let next = if self.sweepers_look_again { At::LookAgain } else { At::CheckLease };
                Self::take(world, who, next);
            }
            (Role::Cleaner, At::LookAgain) => {
                go(if world.file == File::Expired { At::Act } else { At::Release });
            }
            (_, At::LookAgain) => {
                go(if world.file == File::Expired { At::CheckLease } else { At::Release });
            }
            (_, At::CheckLease) => {
                let is_valid = lease == Lease::Valid || !self.sweepers_check_their_lease;
                go(if is_valid { At::Act } else { At::Release });
            }
            (Role::Exporter, At::Act) => {
                Self::publish(world, who);
                world.processes[who].at = At::Release;
            }
            (Role::Downloader, At::Act) => go(At::Release),
            (Role::Cleaner | Role::Sweeper, At::Act) => {
                self.unlink(world, who);
                world.processes[who].at = At::Release;
            }
        }
    }

    fn time(world: &mut World, who: usize) {
        let process = &mut world.processes[who];
        process.lease = match process.lease {
            Lease::Valid => Lease::Ending,
            Lease::Ending | Lease::Expired => Lease::Expired,
            Lease::None => Lease::None,
        };
        if process.lease == Lease::Expired && world.key == Some((who, process.attempt)) {
            world.key = None;
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let process = |role: &Role| Process {
            role: *role,
            at: if *role == Role::Sweeper { At::Look } else { At::Take },
            lease: Lease::None,
            attempt: 0,
            published_since: false,
            rounds_left: if *role == Role::Exporter { 2 } else { 1 },
        };
        vec![World {
            file: File::Expired,
            key: None,
            processes: self.roles.iter().map(process).collect(),
            published: 1,
            removed: 0,
            acted_on_expired_lease: false,
            lost_through_the_window: false,
            was_restarted: false,
            lost_by_a_restart: false,
            removed_what_was_published_before: false,
            removed_what_was_published_under_a_lock: false,
            deleted_the_token_of_another: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Event>) {
        if !world.was_restarted && world.key.is_some() {
            actions.push(Event::Restart);
        }
        for (who, process) in world.processes.iter().enumerate() {
            if process.at != At::Done {
                actions.push(Event::Step(who));
            }
            if matches!(process.lease, Lease::Valid | Lease::Ending) {
                actions.push(Event::Time(who));
            }
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        match event {
            Event::Step(who) => self.step(&mut next, who),
            Event::Time(who) => Self::time(&mut next, who),
            Event::Restart => {
                next.key = None;
                next.was_restarted = true;
            }
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "what was published before the lock was taken stays",
                |_, world: &World| !world.removed_what_was_published_before,
            ),
            Property::always("what was published under a valid lock stays", |_, world: &World| {
                !world.removed_what_was_published_under_a_lock
            }),
            Property::always("no process deletes the token of another", |_, world: &World| {
                !world.deleted_the_token_of_another
            }),
            Property::always("nothing is removed twice", |_, world: &World| {
                world.removed <= world.published
            }),
            Property::sometimes("the window exists", |_, world: &World| {
                world.lost_through_the_window
            }),
            Property::sometimes("a restart is another window", |_, world: &World| {
                world.lost_by_a_restart
            }),
            Property::sometimes("a sweeper removes", |_, world: &World| {
                world.removed > 0 && !world.acted_on_expired_lease
            }),
        ]
    }
}

const ALL: [Role; 5] =
    [Role::Exporter, Role::Downloader, Role::Cleaner, Role::Sweeper, Role::Sweeper];

#[test]
fn every_interleaving_keeps_the_invariants() {
    let checker = Protocol::real(&ALL).checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "{}", checker.unique_state_count());
}

/// The model is not blind: without one of the precautions it finds what goes wrong.
#[test]
fn without_any_one_of_the_precautions_an_invariant_is_broken() {
    let check = |protocol: Protocol| protocol.checker().threads(2).spawn_bfs().join();
    let few = [Role::Exporter, Role::Cleaner, Role::Sweeper];
    let without_look = check(Protocol { sweepers_look_again: false, ..Protocol::real(&few) });
    assert!(without_look.discovery("what was published before the lock was taken stays").is_some());
    let plain_del = check(Protocol { releases_compare: false, ..Protocol::real(&few) });
    assert!(plain_del.discovery("no process deletes the token of another").is_some());
    let counting = check(Protocol { gone_is_not_removed: false, ..Protocol::real(&few) });
    assert!(counting.discovery("nothing is removed twice").is_some());
    // A lease that expires before the check is found by it, and only by it.
    let removed_when_expired_before_the_check = |checks| {
        let roles = [Role::Exporter, Role::Sweeper];
        let protocol = Protocol { sweepers_check_their_lease: checks, ..Protocol::real(&roles) };
        let mut world = protocol.init_states().remove(0);
        for event in
            [Event::Step(1), Event::Step(1), Event::Step(1), Event::Time(1), Event::Time(1)]
        {
            world = protocol.next_state(&world, event).unwrap();
        }
        protocol.step(&mut world, 1);
        protocol.step(&mut world, 1);
        world.removed
    };
    assert_eq!(
        (removed_when_expired_before_the_check(true), removed_when_expired_before_the_check(false)),
        (0, 1)
    );
}
