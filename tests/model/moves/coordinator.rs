//! What a coordinator does, each step on what it has seen. A compare-and-set that would fail is not
//! offered: whoever fails has crashed, as far as the others can tell.

use super::rules::Rule;
use super::state::{A, Choice, Coordinator, Phase, REPLICAS, Side, State};
use super::{Action, Moves};

impl Moves {
    pub fn coordinator_actions(&self, state: &State, who: usize, actions: &mut Vec<Action>) {
        let Some(own) = &state.coordinators[who] else {
            if usize::from(state.taken) == who && !matches!(state.phase, Phase::Moved(_)) {
                actions.push(Action::Take(who));
            }
            return;
        };
        let current = own.seen == state.phase;
        if own.seen == Phase::Active {
            if current {
                actions.push(Action::Seal(who));
            }
            return;
        }
        let missing = |at: &usize| own.reports[*at].is_none() && self.may_report(state, *at);
        actions.extend((0..REPLICAS).filter(missing).map(|at| Action::Report(who, at)));
        for target in [Side::A, Side::B] {
            if (current || !self.keeps(Rule::ChooseByCas)) && self.may_choose(own, target) {
                actions.push(Action::Choose(who, target));
            }
        }
        if !self.keeps(Rule::NeverResume) && current {
            actions.push(Action::Resume(who));
        }
        let Some(choice) = own.choice else { return };
        let there = state.replicas.iter().any(|replica| replica.len >= choice.cut);
        let not_yet = |at: &usize| {
            let replica = &state.replicas[*at];
            let fenced = replica.attempt > choice.attempt && self.keeps(Rule::FencePrepare);
            own.held & 1 << *at == 0 && replica.promised && there && !fenced
        };
        let orders = choice.target.replicas().filter(not_yet);
        actions.extend(orders.map(|at| Action::Prepare(who, at)));
        if self.may_activate(state, own, choice) {
            actions.push(Action::Activate(who));
        }
    }

    fn may_report(&self, state: &State, at: usize) -> bool {
        let handed_off = at == A && state.stopped && !self.keeps(Rule::SealHome);
        state.replicas[at].promised || handed_off
    }

    fn has(own: &Coordinator, side: Side) -> bool {
        side.replicas().filter(|at| own.reports[*at].is_some()).count() >= side.majority()
    }

    /// R11: a majority of the home, or (n - k + 1 = 1) the other DC. The target is one of those that
    /// reported, so that the cut is no less than what it has.
    fn may_choose(&self, own: &Coordinator, target: Side) -> bool {
        let attempt = match own.seen {
            Phase::Sealing => 0,
            Phase::Chosen(choice) => choice.attempt,
            Phase::Active | Phase::Moved(_) => return false,
        };
        let again = own.choice.is_some() && !self.keeps(Rule::ChooseByCas);
        let enough = Self::has(own, Side::A) || Self::has(own, Side::B);
        let reported = Self::has(own, target) || !self.keeps(Rule::TargetReported);
        enough && reported && attempt < self.attempts && !again
    }

    fn may_activate(&self, state: &State, own: &Coordinator, choice: Choice) -> bool {
        if (own.held.count_ones() as usize) < choice.target.majority() {
            return false;
        }
        let expected =
            if self.keeps(Rule::ChooseByCas) { Phase::Chosen(choice) } else { Phase::Sealing };
        let late = matches!(state.phase, Phase::Moved(moved) if moved != choice)
            && !self.keeps(Rule::CasAtApply);
        state.phase == expected || late
    }

    pub fn take(&self, state: &mut State, who: usize) {
        let choice = match state.phase {
            Phase::Chosen(choice) => Some(choice),
            _ => None,
        };
        state.taken += 1;
        let reports = [None; REPLICAS];
        state.coordinators[who] = Some(Coordinator { seen: state.phase, reports, choice, held: 0 });
    }

    pub fn seal(&self, state: &mut State, who: usize) {
        state.phase = Phase::Sealing;
        own(state, who).seen = Phase::Sealing;
    }

    /// What R18 forbids; a coordinator that does it begins again.
    pub fn resume(&self, state: &mut State, who: usize) {
        state.phase = Phase::Active;
        let reports = [None; REPLICAS];
        state.coordinators[who] =
            Some(Coordinator { seen: Phase::Active, reports, choice: None, held: 0 });
    }

    pub fn report(&self, state: &mut State, who: usize, at: usize) {
        let len = state.replicas[at].len;
        own(state, who).reports[at] = Some(len);
    }

    /// R12, over the DCs that are sealed as a whole.
    pub fn choose(&self, state: &mut State, who: usize, target: Side) {
        let is_sync = self.is_sync;
        let before = match state.phase {
            Phase::Chosen(choice) => choice.attempt,
            _ => 0,
        };
        let by_cas = self.keeps(Rule::ChooseByCas);
        let own = own(state, who);
        let sealed = [Side::A, Side::B].into_iter().filter(|side| Self::has(own, *side));
        let reports = sealed.flat_map(Side::replicas).filter_map(|at| own.reports[at]);
        let cut = reports.max().expect("enough have reported");
        let proven = Self::has(own, Side::A) || is_sync;
        let attempt = if by_cas { before + 1 } else { 0 };
        let choice = Choice { attempt, cut, target, proven };
        own.choice = Some(choice);
        own.held = 0;
        if by_cas {
            own.seen = Phase::Chosen(choice);
            state.phase = Phase::Chosen(choice);
        }
    }

    /// R13: exactly the prefix to the cut, from whoever has it; what was beyond is in the ledger.
    pub fn prepare(&self, state: &mut State, who: usize, at: usize) {
        let own = own(state, who);
        let Some(choice) = own.choice else { return };
        own.held |= 1 << at;
        let replica = &mut state.replicas[at];
        replica.len = choice.cut;
        replica.attempt = replica.attempt.max(choice.attempt);
    }

    pub fn activate(&self, state: &mut State, who: usize) {
        let Some(mut choice) = own(state, who).choice else { return };
        state.twice |= matches!(state.phase, Phase::Moved(_));
        if !self.keeps(Rule::ClaimOfTheCut) {
            choice.proven |= state.replicas[A].promised;
        }
        state.phase = Phase::Moved(choice);
    }
}

fn own(state: &mut State, who: usize) -> &mut Coordinator {
    state.coordinators[who].as_mut().expect("a step of one that has begun")
}
