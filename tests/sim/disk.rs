//! A node's disk in the world's time: one commit at a time of all that waits, and reads beside it.

use isobar::log::{self, Write};
use isobar::model::TopicPartition;
use isobar::replica::core::raft_log::Wanted;
use isobar::replica::driver::disk::{Command, NO_ROOM_RETRY};
use rand::Rng;

use crate::event::Event;
use crate::invariants::Violation;
use crate::node::{Node, Running, Task, Work};
use crate::scenario::{MILLI, Micros, SECOND};
use crate::show;
use crate::world::World;

/// A read of a lagging replica's entries.
pub type Read = (TopicPartition, Wanted, log::Reader);

/// Of what a move asks of the disk.
pub fn partition_of(command: &Command) -> TopicPartition {
    match command {
        Command::SetConfig(at, ..)
        | Command::Ledger(at, ..)
        | Command::Seal(at, ..)
        | Command::Cut(at, ..)
        | Command::SetAside(at, ..)
        | Command::Extend(at, ..)
        | Command::BeginEpoch(at, ..) => *at,
        Command::Mend(at, ..) | Command::Doubt(at, ..) => *at,
        Command::Adopt(mend, _) => mend.wants().partition,
        Command::Swap(spare, _) => spare.partition(),
        _ => unreachable!("nothing else is asked of the disk here"),
    }
}

/// Whether it changes what a log has.
pub fn is_of_move(command: &Command) -> bool {
    use Command::{BeginEpoch, Cut, Extend, Seal, SetAside};
    matches!(command, Seal(..) | Cut(..) | SetAside(..) | Extend(..) | BeginEpoch(..))
}

impl Running {
    /// All writes up to the next order, or that order.
    fn next_work(&mut self) -> Option<Work> {
        let mut writes = Vec::new();
        while let Some(task) = self.to_write.pop_front() {
            match task {
                Task::Write(write, note) => writes.push((write, note)),
                Task::Order(command) if writes.is_empty() => {
                    return Some(Work::Order(Box::new(command)));
                }
                order @ Task::Order(_) => {
                    self.to_write.push_front(order);
                    break;
                }
            }
        }
        (!writes.is_empty()).then_some(Work::Commit(writes))
    }
}

impl World {
    /// Begins a commit of all that waits, unless one is under way.
    pub fn commit_soon(&mut self, node: usize) {
        let (fast, slow) = self.scenario.commit;
        let is_slow = self.now < self.nodes[node].slow_until;
        let Node { life, running, .. } = &mut self.nodes[node];
        let Some(running) = running else { return };
        let found_no_room = running.writer.waiting().next().is_some();
        if running.committing.is_some() || running.to_write.is_empty() && !found_no_room {
            return;
        }
        let again = running.to_write.is_empty();
        running.committing = Some(running.next_work().unwrap_or(Work::Commit(Vec::new())));
        let life = *life;
        let mut delay = self.rng.gen_range(fast..=slow);
        if again {
            delay += NO_ROOM_RETRY.as_micros() as Micros;
        }
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
        let writes = match running.committing.take().expect("a commit ends once") {
            Work::Commit(writes) => writes,
            Work::Order(command) => return self.obeyed(node, *command),
        };
        let mut given: Vec<Write> = running.writer.waiting().cloned().collect();
        given.extend(writes.iter().map(|(write, _)| write.clone()));
        match running.writer.commit(writes.clone()) {
            Ok(done) => {
                running.inbox.done.extend(done);
                // Of a partition the last ones.
                for waits in running.writer.waiting() {
                    let last = given.iter().rposition(|w| w.partition == waits.partition);
                    given.remove(last.expect("it was given"));
                }
                self.oracle.persisted(node, &given);
                self.round_soon(node);
                self.commit_soon(node);
            }
            // The process ends (R20).
            Err(_) => {
                if let Some(running) = &mut self.nodes[node].running {
                    running.committing = Some(Work::Commit(writes));
                }
                self.end_process(node, false, None);
            }
        }
        Ok(())
    }

    /// The disk has done what a move asked of it.
    fn obeyed(&mut self, node: usize, command: Command) -> Result<(), Violation> {
        let Some(running) = &mut self.nodes[node].running else { return Ok(()) };
        let at = partition_of(&command);
        let (moves, mends) = (is_of_move(&command), matches!(command, Command::Adopt(..)));
        let reads = mends || matches!(command, Command::Doubt(..));
        running.writer.obey(command);
        if running.writer.store.check_disk().is_err() {
            // The process ends (R20).
            if moves {
                self.oracle.rewritten(node, at, None)?;
            }
            self.end_process(node, false, None);
            return Ok(());
        }
        if reads && let Ok(reader) = running.writer.store.reader(at) {
            self.oracle.read_again(node, at, &reader, mends)?;
        }
        if moves {
            let reader = running.writer.store.reader(at).ok();
            let replica = &self.oracle.partition(at).replicas[node];
            let log = reader.and_then(|reader| replica.read(&reader));
            self.oracle.rewritten(node, at, log)?;
            let queued = running.to_write.iter().filter_map(|task| match task {
                Task::Write(write, _) => Some(write),
                Task::Order(_) => None,
            });
            for write in running.writer.waiting().chain(queued) {
                self.oracle.still_given(node, at, write);
            }
        }
        self.poll_jobs(node);
        self.commit_soon(node);
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
