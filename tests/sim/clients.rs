//! The world's side of the clients: requests on their way, answers, and what readers get.

use isobar::model::batch;
use isobar::replica::ReadError;
use rand::Rng;

use crate::client::{Outcome, Request, Response};
use crate::invariants::{Violation, same_bytes};
use crate::oracle::{Acked, hash_of};
use crate::scenario::{MILLI, Micros, NODES, NODES_PER_DC, SECOND, dc_of, node_of};
use crate::world::{Event, World};

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
        for request in self.producers[producer].take_waiting(at, &mut self.rng) {
            let patience = request.timeout.as_micros() as Micros + PATIENCE;
            self.after(patience, Event::GiveUp(producer, request.attempt));
            if !self.rng.gen_bool(LOST) {
                // One connection: requests arrive in the order in which they were sent.
                self.after(delay, Event::Request(node, Box::new(request)));
            }
        }
    }

    pub fn request(&mut self, node: usize, request: Request) {
        if self.nodes[node].running.is_some() {
            self.with(node, |running| running.inbox.requests.push(request));
        } else if let Some(client) = request.client {
            let delay = self.client_delay(client, node);
            self.after(delay, Event::Respond(client, request.attempt, Err(None)));
        }
    }

    pub fn respond(&mut self, client: usize, attempt: u64, response: Response) {
        let producer = &mut self.producers[client];
        let partition = producer.partition;
        let is_promised = producer.is_promised(&self.scenario);
        let outcome = producer.hear(attempt, response);
        let history = &mut self.oracle.partitions[partition];
        match outcome {
            Outcome::Late => {}
            Outcome::Acked(batch, produced) => history.acked.push(Acked {
                ids: batch.ids,
                base: produced.base_offset.0,
                invoked: batch.invoked,
                acked: self.now,
                is_promised,
            }),
            Outcome::Refused(batch) => history.refused.extend(batch.ids),
            Outcome::Unknown(batch) => history.unknown.extend(batch.ids),
            Outcome::Retry => {
                let backoff = self.rng.gen_range(20 * MILLI..300 * MILLI);
                self.after(backoff, Event::Retry(client));
            }
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
            Err(ReadError::Log(error)) => panic!("n{} cannot read {from}: {error}", node + 1),
        };
        for bytes in &records.batches {
            let header = batch::check(bytes).expect("a batch whose CRC is true");
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
        let hash = hash_of(bytes);
        self.trace.note((self.now, node, base, hash));
        hash
    }
}
