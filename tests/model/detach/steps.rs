//! What each step of a sweeper does.
//!
//! They must not do more at once than the program does in one system call.

use super::{At, MEMBERS, Member, Protocol, Quarantine, Step, Sweeper, Tree, World};

impl Protocol {
    fn has(&self, step: Step) -> bool {
        self.without != Some(step)
    }

    pub(super) fn step(&self, world: &mut World, who: usize) {
        let Sweeper { at, works_in, completes, .. } = world.sweepers[who];
        let next = match at {
            At::Done => At::Done,
            At::Adopt(number) => self.adopt(world, who, number),
            At::Judge => world.judge(who),
            At::Survey(member) if world.members[member].is_used() => At::Leave,
            At::Survey(member) => self.next(At::Survey, member, At::Make),
            At::Make => {
                world.quarantines[works_in].is_made = true;
                world.quarantines[works_in].locked = Some(who);
                At::Detach
            }
            At::Detach => world.detach(works_in),
            At::Arrive => {
                let is_it = world.quarantines[works_in].check == Some(Tree::Old);
                match () {
                    () if !is_it && self.has(Step::Identity) => At::Return,
                    () if self.is_file => At::Look(0),
                    () if self.has(Step::SecondSurvey) => At::Check(0),
                    () => At::Approve,
                }
            }
            At::Check(member) => match self.sees(world.members[member], Step::SecondQuestion) {
                true if completes => At::Withdraw,
                true => At::Return,
                false if completes => self.next(At::Check, member, At::Look(0)),
                false => self.next(At::Check, member, At::Approve),
            },
            At::Approve => self.approve(world, works_in),
            At::Look(member) => self.look(world.members[member], member),
            At::Unlink(member) => self.unlink(world, works_in, member),
            At::Rmdir => world.rmdir(who),
            At::Withdraw => {
                let quarantine = &mut world.quarantines[works_in];
                quarantine.check = quarantine.remove.take().or(quarantine.check);
                At::Return
            }
            At::Return => {
                let returned = world.quarantines[works_in].check.take();
                self.put_back(world, returned);
                if completes { At::Adopt(works_in) } else { At::Leave }
            }
            At::Leave => {
                world.release(who);
                At::Done
            }
        };
        if matches!(next, At::Leave | At::Adopt(_)) && world.locked == Some(who) {
            world.locked = None;
        }
        world.sweepers[who].at = next;
    }

    fn look(&self, found: Member, member: usize) -> At {
        match found {
            Member::Absent | Member::Gone => self.next(At::Look, member, At::Rmdir),
            used if self.has(Step::LastLook) && self.sees(used, Step::LastQuestion) => At::Withdraw,
            Member::Expired
            | Member::Changed
            | Member::ChangedInside
            | Member::Opening
            | Member::OpeningInside => At::Unlink(member),
        }
    }

    /// Whether a look at a member finds it used, with a question for its lease.
    fn sees(&self, member: Member, question: Step) -> bool {
        member.is_changed() || (member.is_opening() && self.has(question))
    }

    /// The same step at the next member, or the step after all of them.
    fn next(&self, step: fn(usize) -> At, member: usize, then: At) -> At {
        let members = if self.is_file { 1 } else { MEMBERS };
        if member + 1 < members { step(member + 1) } else { then }
    }

    fn approve(&self, world: &mut World, works_in: usize) -> At {
        let quarantine = &mut world.quarantines[works_in];
        let is_there = quarantine.check.is_some();
        if self.has(Step::Approval) {
            quarantine.remove = quarantine.check.take();
        }
        if is_there { At::Look(0) } else { At::Leave }
    }

    fn adopt(&self, world: &mut World, who: usize, number: usize) -> At {
        let Some(found) = world.quarantines.get(number).copied() else { return At::Judge };
        let is_locked = found.locked.is_some_and(|other| other != who) && self.has(Step::Lock);
        if !self.has(Step::Recovery) || !found.is_made || is_locked {
            return At::Adopt(number + 1);
        }
        let quarantine = &mut world.quarantines[number];
        quarantine.locked = Some(who);
        if let returned @ Some(_) = quarantine.check.take() {
            self.put_back(world, returned);
            return At::Adopt(number);
        }
        if quarantine.remove.is_none() {
            *quarantine = Quarantine { is_made: false, locked: None, ..*quarantine };
            return At::Adopt(number + 1);
        }
        // Another process that works in the tree.
        if world.locked.is_some_and(|other| other != who) {
            quarantine.locked = None;
            return At::Adopt(number + 1);
        }
        world.locked = Some(who);
        let is_surveyed = self.has(Step::SecondSurvey);
        let at = if is_surveyed { At::Check(0) } else { At::Look(0) };
        let own = world.sweepers[who].own;
        world.sweepers[who] = Sweeper { at, own, works_in: number, completes: true };
        at
    }

    fn unlink(&self, world: &mut World, works_in: usize, member: usize) -> At {
        let Quarantine { check, remove, .. } = world.quarantines[works_in];
        let is_out_of_reach = [check, remove].contains(&Some(Tree::Old));
        if self.is_file {
            // By its name, whatever that leads to.
            world.lost |= check == Some(Tree::New) || world.members[0].is_used();
            world.is_removed |= is_out_of_reach;
            world.quarantines[works_in].check = None;
            world.members[0] = Member::Gone;
            return At::Leave;
        }
        let looks = self.has(Step::LastLook);
        match world.members[member] {
            Member::ChangedInside if looks => world.lost_in_the_window = true,
            Member::OpeningInside if looks && self.has(Step::LastQuestion) => {
                world.lost_in_the_window = true;
            }
            Member::Changed | Member::ChangedInside | Member::Opening | Member::OpeningInside => {
                world.lost = true;
            }
            Member::Absent | Member::Expired | Member::Gone => {}
        }
        world.lost_in_reach |= !is_out_of_reach;
        world.lost_in_part |= world.was_changed_in_time;
        world.members[member] = Member::Gone;
        self.next(At::Look, member, At::Rmdir)
    }

    fn put_back(&self, world: &mut World, returned: Option<Tree>) {
        let Some(tree) = returned else { return };
        if world.home.is_some() && self.has(Step::NoReplace) {
            world.beside.push(tree);
        } else {
            world.lost |= world.home.is_some();
            world.home = Some(tree);
        }
    }
}

impl World {
    fn judge(&mut self, who: usize) -> At {
        // The removal of a member makes the tree look used.
        let has_expired = self.members.iter().all(|m| !m.is_changed() && *m != Member::Gone);
        if self.home != Some(Tree::Old) || self.locked.is_some() || !has_expired {
            return At::Leave;
        }
        self.locked = Some(who);
        self.sweepers[who] = Sweeper::beginning(self.sweepers[who].own);
        At::Survey(0)
    }

    fn detach(&mut self, works_in: usize) -> At {
        let quarantine = &mut self.quarantines[works_in];
        if !quarantine.is_made || self.home.is_none() {
            return At::Leave;
        }
        let is_changed = self.members.iter().any(|member| member.is_used());
        self.was_changed_in_time |= is_changed && self.home == Some(Tree::Old);
        quarantine.check = self.home.take();
        At::Arrive
    }

    fn rmdir(&mut self, who: usize) -> At {
        if !self.members.iter().all(|member| matches!(member, Member::Absent | Member::Gone)) {
            return At::Look(0);
        }
        let Sweeper { works_in, completes, .. } = self.sweepers[who];
        let quarantine = &mut self.quarantines[works_in];
        // By its name, if that still leads to this tree.
        for stage in [&mut quarantine.check, &mut quarantine.remove] {
            if *stage == Some(Tree::Old) {
                *stage = None;
                self.is_removed = true;
            }
        }
        if completes { At::Adopt(works_in) } else { At::Leave }
    }

    /// Releases the locks of a sweeper that ends, and removes its private directory if that is empty.
    fn release(&mut self, who: usize) {
        for quarantine in self.quarantines.iter_mut().filter(|found| found.locked == Some(who)) {
            quarantine.locked = None;
            quarantine.is_made = quarantine.check.is_some() || quarantine.remove.is_some();
        }
    }

    pub(super) fn kill(&mut self, who: usize) {
        self.kills_left -= 1;
        for quarantine in self.quarantines.iter_mut().filter(|found| found.locked == Some(who)) {
            quarantine.locked = None;
        }
        if self.locked == Some(who) {
            self.locked = None;
        }
        let own = self.quarantines.len() - 1 - usize::from(self.kills_left);
        self.sweepers[who] = Sweeper::beginning(own);
    }

    pub(super) fn has_path(&self) -> bool {
        let places = [self.home, self.elsewhere];
        places.contains(&Some(Tree::Old)) || self.beside.contains(&Tree::Old)
    }

    pub(super) fn is_over(&self) -> bool {
        self.sweepers.iter().all(|sweeper| sweeper.at == At::Done)
    }
}
