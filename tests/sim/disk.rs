//! A node's disk in the world's time: one commit at a time of all that waits, and reads beside it.

use isobar::log::{self, Write};
use isobar::model::TopicPartition;
use isobar::replica::core::raft_log::Wanted;
use rand::Rng;

use crate::invariants::Violation;
use crate::node::Node;
use crate::scenario::{MILLI, SECOND};
use crate::show;
use crate::world::{Event, World};

/// A read of a lagging replica's entries.
pub type Read = (TopicPartition, Wanted, log::Reader);

impl World {
    /// Begins a commit of all that waits, unless one is under way.
    pub fn commit_soon(&mut self, node: usize) {
        let (fast, slow) = self.scenario.commit;
        let is_slow = self.now < self.nodes[node].slow_until;
        let Node { life, running, .. } = &mut self.nodes[node];
        let Some(running) = running else { return };
        if running.committing.is_some() || running.to_write.is_empty() {
            return;
        }
        running.committing = Some(std::mem::take(&mut running.to_write));
        let life = *life;
        let mut delay = self.rng.gen_range(fast..=slow);
        if is_slow {
            delay += self.rng.gen_range(50 * MILLI..SECOND);
        }
        self.after(delay, Event::Committed(node, life));
    }

    pub fn committed(&mut self, node: usize, life: u64) -> Result<(), Violation> {
        if self.alive(node, life).is_none() {
            return Ok(());
        }
        if self.is_paused(node, Event::Committed(node, life)).is_none() {
            return Ok(());
        }
        self.trace.note((self.now, node, "commit"));
        show::line(self.now, node, || "commits".to_owned());
        let Some(running) = self.alive(node, life) else { return Ok(()) };
        let writes = running.committing.take().expect("a commit ends once");
        match running.writer.commit(writes.clone()) {
            Ok(done) => {
                running.inbox.done.extend(done);
                let writes: Vec<Write> = writes.into_iter().map(|(write, _)| write).collect();
                self.oracle.persisted(node, &writes);
                self.round_soon(node);
                self.commit_soon(node);
            }
            // The process ends (R20).
            Err(_) => {
                if let Some(running) = &mut self.nodes[node].running {
                    running.committing = Some(writes);
                }
                self.end_process(node, false, None);
            }
        }
        Ok(())
    }

    pub fn read(&mut self, node: usize, life: u64, (at, wanted, reader): Read) {
        if let Some(running) = self.alive(node, life) {
            let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(usize::MAX);
            let entries = reader.entries(wanted.low, wanted.high, bytes_max);
            running.inbox.fetched.push((at, wanted, entries));
            self.round_soon(node);
        }
    }
}
