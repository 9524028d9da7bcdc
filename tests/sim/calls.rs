//! Calls between nodes: what who carries a move asks of replicas. A call may be lost on either way,
//! and then its caller waits in vain; it may come late; and it may come twice.

use std::sync::Arc;

use bytes::Bytes;
use isobar::broker::mend;
use isobar::log::Fork;
use isobar::metadata::moves::carrier::{HOLD_WAIT, SEAL_WAIT, Seal, When};
use isobar::model::{DcName, HomeEpoch, LogIndex, NodeId, ReplicaId, TopicPartition};
use isobar::replica::core::Standing;
use rand::Rng;
use tokio::sync::oneshot;

use crate::carry::For;
use crate::event::Event;
use crate::scenario::{MILLI, Micros, SECOND};
use crate::world::World;

/// As `broker::moves`.
const HAND_OFF_TIMEOUT: Micros = 10 * SECOND;
const RANGE_TIMEOUT: Micros = 30 * SECOND;

/// Calls or answers that are lost, and calls that come twice.
const LOST: f64 = 0.01;
const TWICE: f64 = 0.02;

#[derive(Debug, Clone)]
pub enum Ask {
    Seal(When),
    Hold {
        fork: Arc<Fork>,
        source: NodeId,
    },
    HandOff(DcName),
    /// Of a sealed log: from the first entry to before the last.
    Range(u64, u64),
    /// Of an open one, for whoever mends.
    Entries(LogIndex, LogIndex),
    Standing(ReplicaId),
}

#[derive(Debug, Clone)]
pub struct Call {
    pub id: u64,
    pub from: usize,
    pub to: usize,
    pub at: TopicPartition,
    pub epoch: HomeEpoch,
    pub ask: Ask,
}

#[derive(Debug, Clone)]
pub enum Answer {
    Sealed(Box<Seal>),
    Held(bool),
    HandedOff,
    Range(Bytes),
    Standing(Standing),
    Deleted,
}

pub type Answered = Result<Answer, String>;

/// Who waits.
pub enum Waiter {
    Carrier(u64, For),
    /// A log that is being made to hold the cut, on this node in this life.
    Range(usize, u64, oneshot::Sender<Result<Bytes, String>>),
    /// A log that is being mended.
    Mender(usize, u64, oneshot::Sender<Answered>),
}

impl World {
    pub fn call(
        &mut self,
        (from, to): (usize, usize),
        at: TopicPartition,
        epoch: HomeEpoch,
        ask: Ask,
        waiter: Waiter,
    ) {
        self.next_call += 1;
        let id = self.next_call;
        self.waiters.insert(id, waiter);
        let patience = match ask {
            Ask::Seal(_) => SEAL_WAIT.as_micros() as Micros,
            Ask::Hold { .. } => HOLD_WAIT.as_micros() as Micros,
            Ask::HandOff(_) => HAND_OFF_TIMEOUT,
            Ask::Range(..) => RANGE_TIMEOUT,
            Ask::Entries(..) => mend::RANGE_TIMEOUT.as_micros() as Micros,
            Ask::Standing(_) => mend::STANDING_TIMEOUT.as_micros() as Micros,
        };
        self.after(patience, Event::Answer(id, Box::new(Err("no answer".into()))));
        let call = Call { id, from, to, at, epoch, ask };
        if self.meta.rng.gen_bool(TWICE) {
            let late = self.meta.rng.gen_range(0..3 * SECOND);
            self.after(late, Event::Called(Box::new(call.clone())));
        }
        if !self.is_lost(from, to) {
            let delay = self.meta_delay(from, to);
            self.after(delay, Event::Called(Box::new(call)));
        }
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        from != to && (!self.hears(from, to) || self.meta.rng.gen_bool(LOST))
    }

    /// A call has arrived.
    pub fn called(&mut self, call: Call) {
        let to = call.to;
        if self.is_paused(to, Event::Called(Box::new(call.clone()))).is_none() {
            return;
        }
        if self.nodes[to].running.is_none() {
            // Its connection breaks: the caller soon knows.
            let again = self.meta.rng.gen_range(MILLI..SECOND);
            return self.after(again, Event::Answer(call.id, Box::new(Err("gone".into()))));
        }
        self.trace.note((self.now, to, "called", call.id));
        let mends = matches!(call.ask, Ask::Entries(..) | Ask::Standing(_));
        if !mends
            && !self.meta.image(to).partition(call.at).is_some_and(|p| p.may_promise(call.epoch))
        {
            return self.answer(&call, Err("too far ahead".to_owned()));
        }
        self.serve(call);
    }

    /// An answer leaves.
    pub fn answer(&mut self, call: &Call, answer: Answered) {
        crate::show::answer(self.now, call, &answer);
        if !self.is_lost(call.to, call.from) {
            let delay = self.meta_delay(call.to, call.from);
            self.after(delay, Event::Answer(call.id, Box::new(answer)));
        }
    }

    /// An answer has come, or the caller waits no longer; only the first counts.
    pub fn answered(&mut self, id: u64, answer: Answered) {
        match self.waiters.remove(&id) {
            None => {}
            Some(Waiter::Carrier(carrier, what)) => self.answer_carrier(carrier, what, answer),
            Some(Waiter::Mender(node, life, reply)) => {
                let _ = reply.send(answer);
                if self.alive(node, life).is_some() {
                    self.poll_jobs(node);
                }
            }
            Some(Waiter::Range(node, life, reply)) => {
                let range = answer.map(|answer| match answer {
                    Answer::Range(bytes) => bytes,
                    other => panic!("a range was asked for, and {other:?} came back"),
                });
                let _ = reply.send(range);
                if self.alive(node, life).is_some() {
                    self.poll_jobs(node);
                }
            }
        }
    }
}
