//! The last entry of a home that is planned to move (R18).
//!
//! ```text
//!   hand_off ──▶ nothing is admitted any more ──▶ HAND_OFF entry ──▶ through the gate, and on a
//!                                                                    majority's disks in the next home
//! ```
//!
//! There is no way back: `__meta` has written down that the home moves before it asks, and the epoch
//! ends whatever becomes of it. Another leader of this epoch may still be elected and take records until it is asked
//! too; the seal decides what counts.

use std::time::Duration;

use super::effect::{Effect, Ticket};
use super::{Core, Now, control, watermark};
use crate::model::{DcName, HomeEpoch, LogIndex};
use crate::replica::ProduceError;

#[derive(Debug)]
pub(super) struct HandingOff {
    ticket: Option<Ticket>,
    to: DcName,
    index: LogIndex,
    deadline: Duration,
}

impl Core {
    /// Stops for good, so that the home epoch `next` may begin. Asked again it answers for the same entry.
    /// Whoever asks for an epoch that has begun has not heard of that: this home goes on.
    pub fn hand_off(
        &mut self,
        now: Now,
        ticket: Ticket,
        (next, to): (HomeEpoch, DcName),
        deadline: Duration,
    ) {
        if next <= self.config.group.home_epoch {
            self.effects.push_back(Effect::HandedOff(ticket, Err(ProduceError::NotLeader)));
            return;
        }
        let index = match &self.handing_off {
            Some(before) => before.index,
            None => match self.may_hand_off() {
                Ok(()) => {
                    // What has come in before is in the log before it.
                    if self.has_queued() {
                        self.flush(now);
                    }
                    let epoch = self.config.group.home_epoch.as_u32();
                    self.propose_control(now, control::HAND_OFF, i64::from(epoch))
                }
                Err(why) => {
                    self.effects.push_back(Effect::HandedOff(ticket, Err(why)));
                    return;
                }
            },
        };
        self.fail_hand_off();
        self.handing_off = Some(HandingOff { ticket: Some(ticket), to, index, deadline });
        self.process(now);
    }

    /// As for a produce, but that neither a lease nor other DCs are asked for: what waits for them is
    /// refused, and what is in the log is moved as it is.
    fn may_hand_off(&self) -> Result<(), ProduceError> {
        let leads = self.is_leader() && self.raw.raft.lead_transferee.is_none();
        match (leads, self.ready_to_lead) {
            (false, _) => Err(ProduceError::NotLeader),
            (true, false) => Err(ProduceError::LeaderNotReady),
            (true, true) => Ok(()),
        }
    }

    /// Whether the next home has everything by now.
    pub(super) fn watch_hand_off(&mut self) {
        let Some(HandingOff { to, index, .. }) = &self.handing_off else { return };
        let (index, members) = (*index, self.config.members.iter());
        let mut there: Vec<LogIndex> =
            members.filter(|(_, m)| m.dc == *to).map(|(id, _)| self.matched_of(*id)).collect();
        if self.watermark >= index && watermark::majority(&mut there) >= index {
            self.answer_hand_off(Ok(index));
        }
    }

    pub(super) fn expire_hand_off(&mut self, now: Duration) {
        if self.handing_off.as_ref().is_some_and(|h| h.deadline <= now) {
            self.answer_hand_off(Err(ProduceError::TimedOut));
        }
    }

    /// This replica leads no more, or is asked anew.
    pub(super) fn fail_hand_off(&mut self) {
        self.answer_hand_off(Err(ProduceError::NotLeader));
        if !self.is_leader() {
            self.handing_off = None;
        }
    }

    fn answer_hand_off(&mut self, answer: Result<LogIndex, ProduceError>) {
        if let Some(ticket) = self.handing_off.as_mut().and_then(|h| h.ticket.take()) {
            self.effects.push_back(Effect::HandedOff(ticket, answer));
        }
    }
}
