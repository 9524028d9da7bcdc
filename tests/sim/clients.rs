//! The world's side of the clients: requests on their way, answers, and what readers get.

use bytes::Bytes;
use isobar::coordinator::group::record::{Key, OffsetValue, decode_key};
use isobar::model::{LeaderEpoch, Offset, Term, batch, record};
use isobar::replica::ReadError;
use rand::Rng;

use crate::client::{Asker, Outcome, Request, Response};
use crate::event::Event;
use crate::invariants::{Violation, same_bytes};
use crate::oracle::{Acked, hash_of_bytes};
use crate::scenario::{MILLI, Micros, NODES, NODES_PER_DC, SECOND, dc_of, node_of};
use crate::world::World;

/// Requests or answers that a broken client connection swallows.
const LOST: f64 = 0.005;

/// A client waits this much longer than the server may take.
const PATIENCE: Micros = 2 * SECOND;

const READ_BYTES: usize = 64 << 10;

impl World {
    pub fn client_delay(&mut self, client: usize, node: usize) -> Micros {
        let dc = self.producers[client].dc;
        self.network.delay(dc, dc_of(node), &mut self.rng)
    }

    /// A producer makes another batch, until faults end.
    pub fn think(&mut self, producer: usize) {
        if self.now > self.scenario.faulty_until + 2 * SECOND {
            return;
        }
        let bytes = self.scenario.value_bytes;
        self.producers[producer].make_batch(self.now, bytes, &mut self.rng);
        self.pump(producer);
        let pause = self.rng.gen_range(0..self.scenario.think * 2);
        self.after(pause, Event::Think(producer));
    }

    /// Sends what waits to the partition's leader, as some node knows it.
    pub fn pump(&mut self, producer: usize) {
        if !self.producers[producer].has_waiting() {
            return;
        }
        let at = self.scenario.partitions[self.producers[producer].partition].at;
        let asked = self.rng.gen_range(0..NODES);
        let running = self.nodes[asked].running.as_ref();
        let leads = running.and_then(|r| r.leaders.of(at)).map(|l| node_of(l.node));
        let node = self.producers[producer].find_leader(leads, &mut self.rng);
        let delay = self.client_delay(producer, node);
        let mut is_broken = false;
        for request in self.producers[producer].take_waiting(at, &mut self.rng) {
            let patience = request.timeout.as_micros() as Micros + PATIENCE;
            self.after(patience, Event::GiveUp(producer, request.attempt));
            // What a broken connection swallows, it swallows with all that follows.
            is_broken &= self.scenario.moves.is_some();
            is_broken |= self.rng.gen_bool(LOST);
            if !is_broken {
                // One connection: requests arrive in the order in which they were sent.
                self.after(delay, Event::Request(node, Box::new(request)));
            }
        }
    }

    pub fn request(&mut self, node: usize, request: Request) {
        crate::show::request(self.now, node, &request);
        if self.nodes[node].running.is_some() {
            self.with(node, |running| running.inbox.requests.push(request));
        } else if let Asker::Producer(client) = request.asker {
            let delay = self.client_delay(client, node);
            self.after(delay, Event::Respond(client, request.attempt, Err(None)));
        }
    }

    pub fn respond(&mut self, client: usize, attempt: u64, response: Response) {
        crate::show::response(self.now, client, attempt, &response);
        let producer = &mut self.producers[client];
        let partition = producer.partition;
        let is_promised = producer.is_promised(&self.scenario);
        let outcome = producer.hear(attempt, response);
        let history = &mut self.oracle.partitions[partition];
        match outcome {
            Outcome::Late => return,
            Outcome::Acked(batch, produced) => {
                let term = Term(produced.leader_epoch as u64);
                let epoch = term.home_epoch();
                history.acked.push(Acked {
                    ids: batch.ids,
                    epoch,
                    base: produced.base_offset.0,
                    invoked: batch.invoked,
                    acked: self.now,
                    is_promised,
                });
            }
            Outcome::Refused(batch) => history.refused.extend(batch.ids),
            Outcome::Unknown(batch) => history.unknown.extend(batch.ids),
            Outcome::Retry => {
                let backoff = self.rng.gen_range(20 * MILLI..300 * MILLI);
                self.after(backoff, Event::Retry(client));
                return;
            }
        }
        // It may have been the last that was waited for.
        if self.producers[client].has_drained() {
            self.pump(client);
        }
    }

    /// A reader asks a replica in its DC for what comes next.
    pub fn follow(&mut self, reader: usize) -> Result<(), Violation> {
        let pause = self.rng.gen_range(50 * MILLI..500 * MILLI);
        self.after(pause, Event::Follow(reader));
        if self.rng.gen_bool(0.02) {
            let dc = self.readers[reader].dc;
            self.readers[reader].node = dc * NODES_PER_DC + self.rng.gen_range(0..NODES_PER_DC);
        }
        let (node, partition, from) = {
            let reader = &self.readers[reader];
            (reader.node, reader.partition, reader.offset)
        };
        let at = self.scenario.partitions[partition].at;
        let running = self.nodes[node].running.as_ref();
        let Some(view) = running.and_then(|r| r.replicas.view(at)).cloned() else { return Ok(()) };
        let records = match view.read(from, READ_BYTES) {
            Ok(records) => records.unwrap_or_default(),
            Err(ReadError::OutOfRange { log_start, .. }) => {
                // Behind log start: on from there. Ahead of this replica: it waits.
                self.readers[reader].offset = from.max(log_start);
                return Ok(());
            }
            Err(ReadError::Log(_)) if self.oracle.partitions[partition].replicas[node].rots => {
                // An error that is told, and that its client goes elsewhere for.
                self.readers[reader].node = dc_of(node) * NODES_PER_DC + (node + 1) % NODES_PER_DC;
                return Ok(());
            }
            Err(ReadError::Log(error)) => panic!("n{} cannot read {from}: {error}", node + 1),
        };
        let epoch = self.core(node, partition).map(|core| core.config().group.home_epoch);
        for bytes in &records.batches {
            let header = batch::check(bytes).expect("a batch whose CRC is true");
            let (last, term) = (header.next_offset().0 - 1, Some(header.leader_epoch as u64));
            let history = &self.oracle.partitions[partition];
            if epoch.is_some_and(|epoch| !history.is_kept(epoch, last, term)) {
                // Of a home that has ended before it, and has not heard of it.
                break;
            }
            let hash = self.trace_read(node, header.base_offset.0, bytes);
            let read = &mut self.oracle.partitions[partition].read;
            same_bytes::check_read(node, read, header.base_offset.0, hash)?;
            let due = self.readers[reader].offset;
            same_bytes::check_follows(node, due.0, (header.base_offset.0, header.next_offset().0))?;
            self.readers[reader].offset = header.next_offset();
        }
        Ok(())
    }

    fn trace_read(&mut self, node: usize, base: i64, bytes: &[u8]) -> u64 {
        let hash = hash_of_bytes(bytes);
        self.trace.note((self.now, node, base, hash));
        hash
    }
}

/// The ids of all records in batches as they were made.
pub fn ids_of(batches: &[Bytes]) -> Vec<u64> {
    batches.iter().flat_map(ids_at).map(|(_, _, id)| id).collect()
}

/// Each record's offset, leader epoch and id: of a producer's in its value, of a coordinator's in the metadata of what
/// was committed, or its whole content.
pub fn ids_at(bytes: &Bytes) -> impl Iterator<Item = (Offset, LeaderEpoch, u64)> {
    let epoch = batch::Header::parse(bytes).expect("a batch of ours").leader_epoch;
    let placed = record::parse(bytes).expect("a batch of ours").into_iter();
    placed.map(move |one| {
        let value = one.record.value.expect("every record has one");
        let id = match one.record.key {
            None => u64::from_be_bytes(value[..8].try_into().expect("eight bytes")),
            Some(key) => match decode_key(key).expect("a coordinator's key") {
                Key::Offset { .. } => {
                    let committed = OffsetValue::decode(value).expect("a committed offset");
                    committed.metadata.parse().expect("an id")
                }
                Key::Group(_) | Key::Other(_) => 1 << 63 | hash_of_bytes(&value),
            },
        };
        (one.offset, epoch, id)
    })
}
