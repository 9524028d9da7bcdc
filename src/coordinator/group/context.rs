//! What every group of a shard shares: options, the queue of effects, deadlines, and the writes
//! that are in flight with what is to happen when they are committed.

use std::collections::VecDeque;

use bytes::Bytes;

use super::config::{ENTRY_BYTES, IN_FLIGHT_BYTES_MAX, STATE_BYTES_MAX};
use super::record::{GroupValue, OffsetValue};
use super::timers::Timers;
use super::{
    AppendError, AppendId, Config, Effect, Error, Id, Join, JoinRefused, MemberId,
    PartitionOutcome, Record, Response, Ticket, TopicPartition,
};

#[derive(Debug)]
pub(super) struct Context {
    pub config: Config,
    pub timers: Timers,
    pub effects: VecDeque<Effect>,
    /// In the order of the log; the ids are consecutive.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    next_append: u64,
    /// Estimate of what clients' words take.
    pub state_bytes: usize,
}

#[derive(Debug)]
struct InFlight {
    id: AppendId,
    bytes: usize,
    result: Option<Result<(), AppendError>>,
    then: Then,
}

/// What a write was for. Each holds all that its completion needs; whether it still applies is
/// judged then, since the group goes on living meanwhile.
#[derive(Debug)]
pub(super) enum Then {
    /// The leader's assignment of a generation.
    Assign {
        group: Id,
        value: GroupValue,
        stored: Bytes,
    },
    /// A generation without members.
    Emptied {
        group: Id,
        stored: Bytes,
    },
    /// A static member's new id, with nothing else changed.
    ReplaceStatic {
        group: Id,
        ticket: Ticket,
        join: Join,
        member_id: MemberId,
        stored: Bytes,
    },
    CommitOffsets {
        group: Id,
        ticket: Ticket,
        offsets: Vec<(TopicPartition, OffsetValue)>,
        outcomes: Vec<PartitionOutcome>,
    },
    DeleteOffsets {
        group: Id,
        ticket: Ticket,
        partitions: Vec<TopicPartition>,
        outcomes: Vec<PartitionOutcome>,
    },
    /// Retention: these offsets, and where `all` the group with them.
    Expire {
        group: Id,
        partitions: Vec<TopicPartition>,
        all: bool,
    },
    DeleteGroups {
        ticket: Ticket,
        deleting: Vec<Id>,
        outcomes: Vec<(Id, Result<(), Error>)>,
    },
}

impl Context {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            timers: Timers::default(),
            effects: VecDeque::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            next_append: 0,
            state_bytes: 0,
        }
    }

    pub fn has_room(&self) -> bool {
        self.state_bytes < STATE_BYTES_MAX
    }

    /// Whether clients may add to what is in flight.
    pub fn can_append(&self) -> bool {
        self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    pub fn respond(&mut self, ticket: Ticket, response: Response) {
        self.effects.push_back(Effect::Respond { ticket, response });
    }

    pub fn refuse_join(&mut self, ticket: Ticket, error: Error, member_id: MemberId) {
        self.respond(ticket, Response::Join(Err(JoinRefused { error, member_id })));
    }

    pub fn append(&mut self, records: Vec<Record>, then: Then) {
        assert!(!records.is_empty(), "an append of nothing");
        let id = AppendId(self.next_append);
        self.next_append += 1;
        let bytes = records.iter().map(Record::size_bytes).sum();
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(InFlight { id, bytes, result: None, then });
        self.effects.push_back(Effect::Append { id, records });
    }

    /// # Panics
    /// When the append is not in flight, or was reported before.
    pub fn finish(&mut self, id: AppendId, result: Result<(), AppendError>) {
        let at = self.in_flight.iter_mut().find(|a| a.id == id);
        let before = at.expect("an append that is in flight").result.replace(result);
        assert_eq!(before, None, "append {id:?} was reported twice");
    }

    /// The earliest append, once it and all before it are reported: the order of the log.
    pub fn next_finished(&mut self) -> Option<(Result<(), AppendError>, Then)> {
        let result = self.in_flight.front()?.result?;
        let append = self.in_flight.pop_front()?;
        self.in_flight_bytes -= append.bytes;
        Some((result, append.then))
    }

    /// Gives up on all that is in flight.
    pub fn abandon(&mut self) -> Vec<Then> {
        self.in_flight_bytes = 0;
        self.in_flight.drain(..).map(|a| a.then).collect()
    }
}

impl Record {
    /// With what is kept beside it until it is committed: the value, the outcome, both keys.
    fn size_bytes(&self) -> usize {
        4 * ENTRY_BYTES + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}
