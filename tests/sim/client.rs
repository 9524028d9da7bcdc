//! Clients: producers that retry to whoever leads, and readers that follow the high watermark.
//!
//! An idempotent producer keeps five batches in flight, as Kafka's do, and sends each again until
//! it is acknowledged; sequences make that safe. A plain one sends once, and does not know what
//! became of a batch that was not answered.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use isobar::model::record::{self, Record};
use isobar::model::{Offset, TopicPartition, batch};
use isobar::replica::{Acks, ProduceError, Produced};
use rand::Rng;
use rand::rngs::SmallRng;

use crate::scenario::{Micros, NODES, SECOND, Scenario, wall_ms};

/// Kafka's `max.in.flight.requests.per.connection`.
const IN_FLIGHT_MAX: u64 = 5;

/// Records of one batch, at most.
pub const RECORDS_MAX: usize = 3;

/// Who waits for the answer.
#[derive(Debug, Clone, Copy)]
pub enum Asker {
    Nobody,
    Producer(usize),
    /// On the same node, with one of its writes.
    Coordinator {
        write: u64,
        since: Micros,
    },
}

#[derive(Debug, Clone)]
pub struct Request {
    pub asker: Asker,
    pub attempt: u64,
    pub partition: TopicPartition,
    pub batches: Vec<Bytes>,
    pub acks: Acks,
    /// The server's: it answers by then.
    pub timeout: Duration,
    /// A DeleteRecords instead of a produce.
    pub delete_before: Option<Offset>,
}

/// What a client hears of a request. A connection that broke is an error without a reason.
pub type Response = Result<Produced, Option<ProduceError>>;

/// One batch on its way.
#[derive(Debug, Clone)]
pub struct Batch {
    pub ids: Vec<u64>,
    pub bytes: Bytes,
    pub invoked: Micros,
    pub number: u64,
    in_flight: Option<u64>,
}

#[derive(Debug)]
pub struct Producer {
    pub index: usize,
    pub dc: usize,
    pub partition: usize,
    pub acks: Acks,
    pub is_idempotent: bool,
    pub unacked: VecDeque<Batch>,
    leader: Option<usize>,
    sequence: i32,
    /// Batches made.
    made: u64,
    next_id: u64,
    attempts: u64,
    /// For the report of a producer that never gets its answer.
    last_error: Option<ProduceError>,
    /// It has left a gap, and lets all come back that is under way before it offers again from its lowest on, as
    /// clients do after a retriable error.
    drains: bool,
}

/// What came of a response.
#[derive(Debug)]
pub enum Outcome {
    /// Of a request that the client had given up.
    Late,
    Acked(Batch, Produced),
    /// Certainly not in the log.
    Refused(Batch),
    /// In the log or not: nobody will say.
    Unknown(Batch),
    Retry,
}

impl Producer {
    pub fn draw(index: usize, scenario: &Scenario, rng: &mut SmallRng) -> Self {
        Self {
            index,
            dc: rng.gen_range(0..3),
            partition: index % scenario.plain(),
            acks: if rng.gen_bool(0.85) { Acks::All } else { Acks::Leader },
            is_idempotent: index == 0 || rng.gen_bool(0.7),
            unacked: VecDeque::new(),
            leader: None,
            sequence: 0,
            made: 0,
            next_id: 0,
            attempts: 0,
            last_error: None,
            drains: false,
        }
    }

    /// One of whom an answer is expected whatever was before.
    pub fn late(index: usize, partition: usize) -> Self {
        Self {
            index,
            dc: index % 3,
            partition,
            acks: Acks::All,
            is_idempotent: true,
            unacked: VecDeque::new(),
            leader: None,
            sequence: 0,
            made: 0,
            next_id: 0,
            attempts: 0,
            last_error: None,
            drains: false,
        }
    }

    /// Whether an acknowledgement promises that the record stays. acks=1 on an async topic waits
    /// for one disk and may go with it.
    pub fn is_promised(&self, scenario: &Scenario) -> bool {
        self.acks == Acks::All || scenario.is_sync(self.partition)
    }

    /// An idempotent producer of acks=1 on an async topic may lose a batch and then be refused for
    /// ever, as in Kafka: it is given no such topic.
    pub fn settle_acks(&mut self, scenario: &Scenario) {
        if self.is_idempotent && !self.is_promised(scenario) {
            self.acks = Acks::All;
        }
    }

    pub fn make_batch(&mut self, now: Micros, value_bytes: usize, rng: &mut SmallRng) {
        // A connection's answers come in order, so the sixth never leaves before the first's answer.
        if self.unacked.front().is_some_and(|oldest| self.made - oldest.number >= IN_FLIGHT_MAX) {
            return;
        }
        let mut ids = Vec::new();
        let mut records = Vec::new();
        for _ in 0..rng.gen_range(1..=RECORDS_MAX) {
            let id = (self.index as u64) << 32 | self.next_id;
            self.next_id += 1;
            let mut value = id.to_be_bytes().to_vec();
            value.resize(8 + rng.gen_range(0..value_bytes), self.index as u8);
            records.push(Record { key: None, value: Some(value.into()) });
            ids.push(id);
        }
        let bytes = record::build(&records, wall_ms(now));
        let bytes = if self.is_idempotent { self.sign(&bytes, ids.len()) } else { bytes };
        batch::check(&bytes).expect("a batch that a broker takes");
        let number = self.made;
        self.made += 1;
        self.unacked.push_back(Batch { ids, bytes, invoked: now, number, in_flight: None });
    }

    /// With the producer's id and the next sequence in it.
    fn sign(&mut self, bytes: &[u8], records: usize) -> Bytes {
        let mut bytes = BytesMut::from(bytes);
        let id = self.index as i64 + 1_000;
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&0i16.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.sequence.to_be_bytes());
        self.sequence += records as i32;
        let crc = batch::crc_of(&bytes);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }

    /// What keeps it waiting, in words; `None` if it has all its answers.
    pub fn waits(&self) -> Option<String> {
        let oldest = batch::Header::parse(&self.unacked.front()?.bytes).expect("a batch of ours");
        let Self { index, partition, unacked, sequence, last_error, .. } = self;
        Some(format!(
            "producer {index} of p{partition} waits for {} batches from sequence {} of {sequence}, last error {last_error:?}; ",
            unacked.len(),
            oldest.base_sequence
        ))
    }

    /// Whether something waits to be sent.
    pub fn has_waiting(&self) -> bool {
        self.unacked.iter().any(|b| b.in_flight.is_none())
    }

    /// Whether all that was under way has come back, after a gap.
    pub fn has_drained(&self) -> bool {
        self.drains && self.unacked.iter().all(|b| b.in_flight.is_none())
    }

    /// Where to send, by what `leads` says of the partition's leader; anywhere if nobody knows.
    pub fn find_leader(&mut self, leads: Option<usize>, rng: &mut SmallRng) -> usize {
        *self.leader.get_or_insert_with(|| leads.unwrap_or_else(|| rng.gen_range(0..NODES)))
    }

    pub fn take_waiting(&mut self, at: TopicPartition, rng: &mut SmallRng) -> Vec<Request> {
        let mut requests = Vec::new();
        let (asker, acks) = (Asker::Producer(self.index), self.acks);
        if self.drains && self.unacked.iter().any(|b| b.in_flight.is_some()) {
            return requests;
        }
        self.drains = false;
        for batch in self.unacked.iter_mut().filter(|b| b.in_flight.is_none()) {
            self.attempts += 1;
            batch.in_flight = Some(self.attempts);
            requests.push(Request {
                asker,
                attempt: self.attempts,
                partition: at,
                batches: vec![batch.bytes.clone()],
                acks,
                timeout: Duration::from_micros(rng.gen_range(SECOND / 2..5 * SECOND)),
                delete_before: None,
            });
        }
        requests
    }

    pub fn hear(&mut self, attempt: u64, response: Response) -> Outcome {
        let found = self.unacked.iter().position(|b| b.in_flight == Some(attempt));
        let Some(position) = found else { return Outcome::Late };
        let error = match response {
            Ok(produced) => {
                let batch = self.unacked.remove(position).expect("it was found there");
                return Outcome::Acked(batch, produced);
            }
            Err(error) => error,
        };
        self.leader = None;
        self.last_error = error;
        // What is under way to an old leader may come before it: it is waited for, as by librdkafka.
        self.drains |= self.is_idempotent;
        if self.is_idempotent {
            self.unacked[position].in_flight = None;
            return Outcome::Retry;
        }
        let batch = self.unacked.remove(position).expect("it was found there");
        if error.is_some_and(is_definite) {
            Outcome::Refused(batch)
        } else {
            Outcome::Unknown(batch)
        }
    }
}

/// Whether nothing was appended.
fn is_definite(error: ProduceError) -> bool {
    match error {
        ProduceError::UnknownPartition
        | ProduceError::LeaderNotReady
        | ProduceError::NotEnoughReplicas
        | ProduceError::OverBudget { .. }
        | ProduceError::AfterLoss { .. }
        | ProduceError::LargerThanBudget
        | ProduceError::Fenced
        | ProduceError::OutOfOrderSequence { .. }
        | ProduceError::InvalidProducerEpoch { .. }
        | ProduceError::UnknownProducer(_)
        | ProduceError::Busy
        | ProduceError::DiskFull => true,
        ProduceError::NotLeader
        | ProduceError::NotEnoughReplicasAfterAppend
        | ProduceError::TimedOut
        | ProduceError::ShuttingDown => false,
    }
}

/// Follows one partition in one DC.
#[derive(Debug)]
pub struct Reader {
    pub dc: usize,
    pub partition: usize,
    pub node: usize,
    pub offset: Offset,
}
