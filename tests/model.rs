//! A model of the exporter lock's protocol: every interleaving of an exporter, a downloader, CVAT's own
//! cleaner and two sweepers over one file, with leases that run out and processes that stall at any
//! step.
//!
//! What holds always, stalls and all:
//! - a file that was published before a sweeper held the lock is never removed by it;
//! - no process deletes a token but its own;
//! - no file is removed more often than it was published.
//!
//! What holds unless a process acts on a lease that has run out, or the server is restarted and forgets
//! all locks: a file that was published under a valid lock is never removed by a sweeper. **The window**
//! that remains is one step wide, between a sweeper's look at its lease and its unlink: the checker must
//! find a fresh file lost through it, for a model in which it is closed would not be of this program
//! (there is no fencing token, and no conditional unlink). The other one is the restart, which the
//! program makes a tenth of a second wide by asking again.

use stateright::{Checker, Model, Property};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum File {
    Absent,
    Stale,
    Fresh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    /// Publishes, and publishes again or sets the times of what is there.
    Exporter,
    /// Makes sure that the file is there, under the lock.
    Downloader,
    /// CVAT's own: takes the lock, looks, unlinks; never asks whether its lease has run out.
    Cleaner,
    /// Ours.
    Sweeper,
}

/// How much of a lease is left. A sweeper acts on one that is `Good` only: what lies between that and
/// its end on the server is the drift and the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Lease {
    None,
    Good,
    Ending,
    RunOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Look,
    Take,
    LookAgain,
    AskLease,
    Act,
    GiveBack,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    role: Role,
    at: At,
    lease: Lease,
    /// Its attempts so far; a token is a process and an attempt.
    attempt: u8,
    /// Something was published since it has taken the lock.
    published_since: bool,
    rounds_left: u8,
}

#[expect(clippy::struct_excessive_bools, reason = "what the properties ask about, one each")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    file: File,
    /// The key in Redis: whose token it holds.
    key: Option<(usize, u8)>,
    processes: Vec<Process>,
    published: u8,
    removed: u8,
    /// A process published or unlinked on a lease that had run out.
    a_process_was_late: bool,
    /// A sweeper removed a fresh file, having found its lease good one step before.
    lost_through_the_window: bool,
    was_restarted: bool,
    lost_by_a_restart: bool,
    removed_what_was_published_before: bool,
    removed_what_was_published_under_a_lock: bool,
    deleted_a_foreign_token: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    /// A process takes its next step.
    Step(usize),
    /// Time passes for the lease of a process, however far that process has come.
    Time(usize),
    /// The server is restarted, once, and has forgotten all locks.
    Restart,
}

#[expect(clippy::struct_excessive_bools, reason = "one for each precaution that can be left out")]
struct Protocol {
    roles: Vec<Role>,
    /// What is modeled: the real check of the lease before the unlink, or none.
    sweepers_ask_their_lease: bool,
    /// Likewise: the real second look under the lock, or none.
    sweepers_look_again: bool,
    /// Likewise: the release that compares, or a plain `DEL`.
    releases_compare: bool,
    /// Likewise: a file that is gone is not counted as removed.
    gone_is_not_removed: bool,
}

impl Protocol {
    fn real(roles: &[Role]) -> Self {
        Self {
            roles: roles.to_owned(),
            sweepers_ask_their_lease: true,
            sweepers_look_again: true,
            releases_compare: true,
            gone_is_not_removed: true,
        }
    }

    fn take(world: &mut World, who: usize, next: At) {
        if world.key.is_none() {
            let process = &mut world.processes[who];
            process.attempt += 1;
            process.lease = Lease::Good;
            process.published_since = false;
            process.at = next;
            world.key = Some((who, process.attempt));
        } else if world.processes[who].role == Role::Sweeper {
            // Busy, to be tried once more. The second try is the same as a sweeper that begins later.
            world.processes[who].at = At::Done;
        }
        // Pottery polls: it stays where it is.
    }

    fn publish(world: &mut World, who: usize) {
        world.a_process_was_late |= world.processes[who].lease == Lease::RunOut;
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
        let is_late = process.lease == Lease::RunOut;
        let is_ours = process.role == Role::Sweeper;
        if is_ours && world.file == File::Fresh {
            world.lost_through_the_window |= is_late && !world.was_restarted;
            world.lost_by_a_restart |= !is_late && world.was_restarted;
            world.removed_what_was_published_before |= !process.published_since;
            world.removed_what_was_published_under_a_lock |=
                !(world.a_process_was_late || is_late || world.was_restarted);
        }
        world.a_process_was_late |= is_late;
        if world.file != File::Absent || (is_ours && !self.gone_is_not_removed) {
            world.removed += 1;
        }
        world.file = File::Absent;
    }

    fn give_back(&self, world: &mut World, who: usize) {
        let ours = Some((who, world.processes[who].attempt));
        if world.key == ours || (!self.releases_compare && world.key.is_some()) {
            world.deleted_a_foreign_token |= world.key != ours;
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
            (_, At::GiveBack) => self.give_back(world, who),
            // The first look, without a lock: only what is stale is claimed at all.
            (_, At::Look) => go(if world.file == File::Stale { At::Take } else { At::Done }),
            (Role::Exporter | Role::Downloader, At::Take) => Self::take(world, who, At::Act),
            (Role::Cleaner, At::Take) => Self::take(world, who, At::LookAgain),
            (Role::Sweeper, At::Take) => {
                let next = if self.sweepers_look_again { At::LookAgain } else { At::AskLease };
                Self::take(world, who, next);
            }
            (Role::Cleaner, At::LookAgain) => {
                go(if world.file == File::Stale { At::Act } else { At::GiveBack });
            }
            (_, At::LookAgain) => {
                go(if world.file == File::Stale { At::AskLease } else { At::GiveBack });
            }
            (_, At::AskLease) => {
                let good = lease == Lease::Good || !self.sweepers_ask_their_lease;
                go(if good { At::Act } else { At::GiveBack });
            }
            (Role::Exporter, At::Act) => {
                Self::publish(world, who);
                world.processes[who].at = At::GiveBack;
            }
            (Role::Downloader, At::Act) => go(At::GiveBack),
            (Role::Cleaner | Role::Sweeper, At::Act) => {
                self.unlink(world, who);
                world.processes[who].at = At::GiveBack;
            }
        }
    }

    fn time(world: &mut World, who: usize) {
        let process = &mut world.processes[who];
        process.lease = match process.lease {
            Lease::Good => Lease::Ending,
            Lease::Ending | Lease::RunOut => Lease::RunOut,
            Lease::None => Lease::None,
        };
        if process.lease == Lease::RunOut && world.key == Some((who, process.attempt)) {
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
            file: File::Stale,
            key: None,
            processes: self.roles.iter().map(process).collect(),
            published: 1,
            removed: 0,
            a_process_was_late: false,
            lost_through_the_window: false,
            was_restarted: false,
            lost_by_a_restart: false,
            removed_what_was_published_before: false,
            removed_what_was_published_under_a_lock: false,
            deleted_a_foreign_token: false,
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
            if matches!(process.lease, Lease::Good | Lease::Ending) {
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
                "what was published before we held the lock stays",
                |_, world: &World| !world.removed_what_was_published_before,
            ),
            Property::always("what was published under a good lock stays", |_, world: &World| {
                !world.removed_what_was_published_under_a_lock
            }),
            Property::always("no token is deleted but one's own", |_, world: &World| {
                !world.deleted_a_foreign_token
            }),
            Property::always("nothing is removed twice", |_, world: &World| {
                world.removed <= world.published
            }),
            Property::sometimes("the window is there", |_, world: &World| {
                world.lost_through_the_window
            }),
            Property::sometimes("a restart is one, too", |_, world: &World| {
                world.lost_by_a_restart
            }),
            Property::sometimes("a sweeper removes", |_, world: &World| {
                world.removed > 0 && !world.a_process_was_late
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

/// The model can tell: without one of the precautions it finds what goes wrong.
#[test]
fn without_each_precaution_an_invariant_falls() {
    let check = |protocol: Protocol| protocol.checker().threads(2).spawn_bfs().join();
    let few = [Role::Exporter, Role::Cleaner, Role::Sweeper];
    let blind = check(Protocol { sweepers_look_again: false, ..Protocol::real(&few) });
    assert!(blind.discovery("what was published before we held the lock stays").is_some());
    let plain_del = check(Protocol { releases_compare: false, ..Protocol::real(&few) });
    assert!(plain_del.discovery("no token is deleted but one's own").is_some());
    let counting = check(Protocol { gone_is_not_removed: false, ..Protocol::real(&few) });
    assert!(counting.discovery("nothing is removed twice").is_some());
    // A lease that ran out before the question is caught by it, and only by it.
    let ran_out_before_the_question = |asks| {
        let roles = [Role::Exporter, Role::Sweeper];
        let protocol = Protocol { sweepers_ask_their_lease: asks, ..Protocol::real(&roles) };
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
    assert_eq!((ran_out_before_the_question(true), ran_out_before_the_question(false)), (0, 1));
}
