//! A model of how an entry is taken out of reach and removed: every interleaving of a writer and two sweepers, each
//! of which may be killed at any step and begins again, as the next pass does.
//!
//! The writer changes members of the tree, adds one, moves the tree elsewhere, and makes a new tree of a name that
//! is free. It reaches members by path where the tree has a path, and anywhere through a directory that it has open
//! from before. Before it changes a member it may have to wait in `open`, for a virus scanner for example: that shows in
//! no time, but in the answer to the question for a lease.
//!
//! **The window** that remains is one step wide, between the look at a member and its removal, and only an open
//! directory leads to it. The checker must find what is lost through it: a model without it would not be one of this
//! program (there is no conditional unlink). Of a file there is no window, since nothing leads to it.

mod steps;

use stateright::{Checker, Model, Property};

/// Two trees: the expired one, and a new one that may get its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tree {
    Old,
    New,
}

/// The last of them is not there at first.
const MEMBERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Member {
    Absent,
    Expired,
    /// Used or added by the writer.
    Changed,
    /// The same, through an open directory.
    ChangedInside,
    /// The writer has begun to open it by its path, and waits.
    Opening,
    /// The same, through an open directory.
    OpeningInside,
    Gone,
}

impl Member {
    fn is_changed(self) -> bool {
        matches!(self, Self::Changed | Self::ChangedInside)
    }

    fn is_opening(self) -> bool {
        matches!(self, Self::Opening | Self::OpeningInside)
    }

    fn is_used(self) -> bool {
        self.is_changed() || self.is_opening()
    }
}

/// The private directory of one run of a sweeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Quarantine {
    is_made: bool,
    /// Who holds its lock. One that is killed holds nothing.
    locked: Option<usize>,
    check: Option<Tree>,
    remove: Option<Tree>,
}

/// The next step of a sweeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// Looks for what a run that was killed has left in this private directory.
    Adopt(usize),
    Judge,
    Survey(usize),
    Make,
    Detach,
    Arrive,
    Check(usize),
    Approve,
    Look(usize),
    Unlink(usize),
    Rmdir,
    Withdraw,
    Return,
    Leave,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sweeper {
    at: At,
    /// The private directory that it makes, and the one that it works in.
    own: usize,
    works_in: usize,
    /// It completes what another run began.
    completes: bool,
}

impl Sweeper {
    fn beginning(own: usize) -> Self {
        Self { at: At::Adopt(0), own, works_in: own, completes: false }
    }
}

#[expect(clippy::struct_excessive_bools, reason = "one for each fact that the properties check")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// What has the name.
    home: Option<Tree>,
    /// What was returned beside it.
    beside: Vec<Tree>,
    /// Where the writer has moved the old tree.
    elsewhere: Option<Tree>,
    quarantines: Vec<Quarantine>,
    members: [Member; MEMBERS],
    /// Who holds the lock of the old tree.
    locked: Option<usize>,
    sweepers: Vec<Sweeper>,
    kills_left: u8,
    has_opened: bool,
    /// The writer has changed or moved something.
    was_disturbed: bool,
    /// It has made the new tree.
    has_made_new: bool,
    /// A member had changed when the tree was taken out of reach.
    was_changed_in_time: bool,
    is_removed: bool,
    /// Something that the writer has changed or made was removed.
    lost: bool,
    lost_in_the_window: bool,
    /// Something was removed from the old tree where it has a path.
    lost_in_reach: bool,
    /// Something was removed from it although a member had changed in time.
    lost_in_part: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Event {
    Step(usize),
    Kill(usize),
    /// The writer opens a directory of the tree.
    Open,
    Change(usize),
    ChangeInside(usize),
    BeginToOpen(usize),
    BeginToOpenInside(usize),
    /// It has opened the member, and changes it.
    Write(usize),
    MoveElsewhere,
    MakeNew,
}

/// A step that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The comparison of what has arrived out of reach with what was judged.
    Identity,
    /// The second look at the tree as a whole.
    SecondSurvey,
    /// The question for the leases on all members that is a part of it.
    SecondQuestion,
    /// The look at a member immediately before it is removed.
    LastLook,
    /// The question for the lease on the member that is a part of it.
    LastQuestion,
    /// A return that replaces nothing.
    NoReplace,
    /// The rename that says that the removal has begun.
    Approval,
    /// The lock of the private directory.
    Lock,
    /// What a run that was killed has left is completed.
    Recovery,
}

struct Protocol {
    without: Option<Step>,
    sweepers: usize,
    kills: u8,
    /// The entry is a file: one member, and no directory that anybody could have open.
    is_file: bool,
}

impl Protocol {
    fn real(sweepers: usize, kills: u8) -> Self {
        Self { without: None, sweepers, kills, is_file: false }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let quarantine = Quarantine { is_made: false, locked: None, check: None, remove: None };
        let [first, second, last] = if self.is_file {
            [Member::Expired, Member::Absent, Member::Absent]
        } else {
            [Member::Expired, Member::Expired, Member::Absent]
        };
        vec![World {
            home: Some(Tree::Old),
            beside: Vec::new(),
            elsewhere: None,
            quarantines: vec![quarantine; self.sweepers + usize::from(self.kills)],
            members: [first, second, last],
            locked: None,
            sweepers: (0..self.sweepers).map(Sweeper::beginning).collect(),
            kills_left: self.kills,
            has_opened: false,
            was_disturbed: false,
            has_made_new: false,
            was_changed_in_time: false,
            is_removed: false,
            lost: false,
            lost_in_the_window: false,
            lost_in_reach: false,
            lost_in_part: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Event>) {
        for (who, sweeper) in world.sweepers.iter().enumerate() {
            if sweeper.at != At::Done {
                actions.push(Event::Step(who));
                if world.kills_left > 0 {
                    actions.push(Event::Kill(who));
                }
            }
        }
        if world.home == Some(Tree::Old) {
            actions.push(Event::MoveElsewhere);
            if !self.is_file && !world.has_opened {
                actions.push(Event::Open);
            }
        }
        if world.home.is_none() && !world.has_made_new {
            actions.push(Event::MakeNew);
        }
        let members = if self.is_file { 1 } else { MEMBERS };
        for (member, state) in world.members[..members].iter().enumerate() {
            if state.is_opening() {
                actions.push(Event::Write(member));
            }
            if *state == Member::Expired && !world.is_removed {
                if world.has_path() {
                    actions.push(Event::BeginToOpen(member));
                } else if world.has_opened {
                    actions.push(Event::BeginToOpenInside(member));
                }
            }
            if matches!(state, Member::Absent | Member::Expired) && !world.is_removed {
                if world.has_path() {
                    actions.push(Event::Change(member));
                } else if world.has_opened {
                    actions.push(Event::ChangeInside(member));
                }
            }
        }
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        next.was_disturbed |= !matches!(event, Event::Step(_) | Event::Kill(_) | Event::Open);
        match event {
            Event::Step(who) => self.step(&mut next, who),
            Event::Kill(who) => next.kill(who),
            Event::Open => next.has_opened = true,
            Event::Change(member) => next.members[member] = Member::Changed,
            Event::ChangeInside(member) => next.members[member] = Member::ChangedInside,
            Event::BeginToOpen(member) => next.members[member] = Member::Opening,
            Event::BeginToOpenInside(member) => next.members[member] = Member::OpeningInside,
            Event::Write(member) => {
                let is_inside = next.members[member] == Member::OpeningInside;
                next.members[member] =
                    if is_inside { Member::ChangedInside } else { Member::Changed };
            }
            Event::MoveElsewhere => next.elsewhere = next.home.take(),
            Event::MakeNew => {
                next.home = Some(Tree::New);
                next.has_made_new = true;
            }
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(STAYS, |_, world: &World| !world.lost),
            Property::always(OUT_OF_REACH, |_, world: &World| !world.lost_in_reach),
            Property::always(WHOLE, |_, world: &World| !world.lost_in_part),
            Property::always(NOTHING_LEFT, |_, world: &World| {
                !world.is_over() || !world.quarantines.iter().any(|found| found.is_made)
            }),
            Property::always(GONE, |_, world: &World| {
                !world.is_over() || world.was_disturbed || world.is_removed
            }),
            Property::sometimes("it has its name again", |_, world: &World| {
                world.is_over() && world.was_changed_in_time && world.home == Some(Tree::Old)
            }),
            Property::sometimes("its name was taken", |_, world: &World| {
                world.is_over() && world.beside == [Tree::Old]
            }),
            Property::sometimes("a removal is completed", |protocol: &Self, world: &World| {
                world.is_removed && world.kills_left < protocol.kills
            }),
        ];
        if self.is_file {
            properties.push(Property::always("nothing leads to a file", |_, world: &World| {
                !world.lost_in_the_window
            }));
        } else {
            properties
                .push(Property::sometimes(WINDOW, |_, world: &World| world.lost_in_the_window));
        }
        properties
    }
}

const STAYS: &str = "what the writer has changed or made stays";
const OUT_OF_REACH: &str = "nothing is removed where it can be reached by path";
const WHOLE: &str = "a tree that was changed in time is whole";
const NOTHING_LEFT: &str = "in the end nothing is out of reach";
const GONE: &str = "in the end what nobody has touched is gone";
const WINDOW: &str = "the window exists";

fn check(protocol: Protocol) -> impl Checker<Protocol> {
    protocol.checker().threads(2).spawn_bfs().join()
}

#[test]
fn every_interleaving_keeps_what_was_used_and_leaves_nothing_out_of_reach() {
    for is_file in [false, true] {
        for (sweepers, kills) in [(1, 2), (2, 1)] {
            let checker = check(Protocol { is_file, ..Protocol::real(sweepers, kills) });
            checker.assert_properties();
            let states = checker.unique_state_count();
            eprintln!("{states} states");
            assert!(states > 400, "{states}");
        }
    }
}

/// The model is not blind: without any one of the steps it finds what goes wrong.
#[test]
fn without_any_one_of_the_steps_something_is_lost_or_left() {
    for (step, property, is_file) in [
        (Step::Identity, OUT_OF_REACH, false),
        (Step::Identity, STAYS, true),
        (Step::SecondSurvey, WHOLE, false),
        (Step::SecondQuestion, WHOLE, false),
        (Step::LastLook, STAYS, false),
        (Step::LastLook, STAYS, true),
        (Step::LastQuestion, STAYS, false),
        (Step::LastQuestion, STAYS, true),
        (Step::NoReplace, STAYS, false),
        (Step::NoReplace, STAYS, true),
        (Step::Approval, GONE, false),
        (Step::Lock, GONE, false),
        (Step::Recovery, NOTHING_LEFT, false),
    ] {
        // One sweeper is enough to find it, unless two of them meet.
        let real = Protocol::real(if step == Step::Lock { 2 } else { 1 }, 1);
        let checker = check(Protocol { without: Some(step), is_file, ..real });
        let found = checker.discovery(property);
        assert!(found.is_some(), "without {step:?} it is still so that {property}");
    }
}
