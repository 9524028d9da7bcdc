//! A store beside a model of it, on a disk that crashes anywhere: whatever was committed with a sync
//! is there afterwards, in order, and nothing that never was.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::log::{HighWatermark, LogStart};

/// What the store should hold.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    start: LogStart,
    /// From the one after the log start on.
    entries: Vec<Entry>,
    /// The last entry that must survive.
    synced: LogIndex,
    state: ReplicaState,
    hw: HighWatermark,
}

impl Model {
    fn last(&self) -> (LogIndex, Term) {
        self.entries.last().map_or((self.start.index, self.start.term), |e| (e.index, e.term))
    }

    fn next_offset(&self) -> Offset {
        self.entries.last().map_or(self.start.offset, Entry::next_offset)
    }

    fn truncate(&mut self, from: LogIndex) {
        self.entries.retain(|e| e.index < from);
        self.synced = self.synced.min(from.prev());
    }

    /// The model after `write` has been committed.
    fn apply(&mut self, write: &Write) {
        if let Some(start) = write.reset {
            (self.start, self.entries, self.synced) = (start, Vec::new(), start.index);
            self.hw = HighWatermark { index: start.index, offset: start.offset };
        }
        if let Some(from) = write.truncate_from {
            self.truncate(from);
        }
        self.entries.extend(write.entries.iter().cloned());
        if write.sync && !write.entries.is_empty() {
            self.synced = self.last().0;
        }
        if let Some(start) = write.start {
            self.start = start;
            self.entries.retain(|e| e.index > start.index);
        }
        self.state = write.state.clone().unwrap_or_else(|| self.state.clone());
        self.hw = write.checkpoint.unwrap_or(self.hw);
    }

    /// Whether a restart may find `found` where this should be.
    fn allows(&self, found: &[Entry], start: LogStart, least: LogIndex) -> bool {
        let ours: Vec<&Entry> = self.entries.iter().filter(|e| e.index > start.index).collect();
        let is_prefix = found.len() <= ours.len() && found.iter().zip(&ours).all(|(a, b)| a == *b);
        let last = found.last().map_or(start.index, |e| e.index);
        is_prefix && last >= least.min(self.last().0)
    }
}

struct Run {
    rng: SmallRng,
    disk: SimDisk,
    store: Option<Store>,
    model: Model,
    /// Tells one entry's content from all others'.
    serial: u64,
    config: Config,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let segment_bytes = rng.gen_range(600..6000);
        let store = store_with(&disk, segment_bytes);
        let model = Model {
            start: LogStart::default(),
            entries: Vec::new(),
            synced: LogIndex::ZERO,
            state: state(),
            hw: HighWatermark::default(),
        };
        let config = Config { segment_bytes, ..Config::default() };
        Self { rng, disk, store: Some(store), model, serial: 0, config }
    }

    fn entries(&mut self, last: (LogIndex, Term), next: Offset) -> Vec<Entry> {
        let (mut index, mut offset) = (last.0.0, next.0);
        let mut term = last.1.0.max(TERM) + u64::from(self.rng.gen_bool(0.2));
        let count = self.rng.gen_range(1..8);
        let mut entries = Vec::new();
        for _ in 0..count {
            index += 1;
            self.serial += 1;
            let content =
                [self.serial.to_string().into_bytes(), vec![7; self.rng.gen_range(0..900)]];
            let content = content.concat();
            let e = match self.rng.gen_range(0..10) {
                0 => entry(index, term, Kind::Empty, offset, b""),
                1 => entry(index, term, Kind::Control(2), offset, &content),
                _ => batch_entry(index, term, offset, self.rng.gen_range(1..5), &content),
            };
            offset = e.next_offset().0;
            term += u64::from(self.rng.gen_bool(0.05));
            entries.push(e);
        }
        entries
    }

    /// Something that a replica might do.
    fn write(&mut self) -> Write {
        let mut write = Write { sync: self.rng.gen_bool(0.7), ..Write::to(partition(0)) };
        let (last, next) = (self.model.last(), self.model.next_offset());
        let hw = self.model.hw.index;
        match self.rng.gen_range(0..20) {
            0 if last.0 > hw => {
                let from = LogIndex(self.rng.gen_range(hw.0 + 1..=last.0.0));
                write.truncate_from = Some(from);
                let mut cut = self.model.clone();
                cut.truncate(from);
                if self.rng.gen_bool(0.7) {
                    write.entries = self.entries(cut.last(), cut.next_offset());
                }
            }
            1 => {
                let index = LogIndex(last.0.0 + self.rng.gen_range(1..50));
                let term = Term(last.1.0.max(TERM));
                let offset = next.plus(self.rng.gen_range(0..100));
                write.reset = Some(LogStart { index, term, offset });
                write.producer_snapshot = Some((index, Bytes::from_static(b"producers")));
            }
            2 | 3 => {
                let offset = self.rng.gen_range(
                    self.model.start.offset.0
                        ..=self.model.hw.offset.0.max(self.model.start.offset.0),
                );
                let reader = self.store.as_ref().unwrap().reader(partition(0)).unwrap();
                write.start = Some(reader.start_for(Offset(offset), hw).unwrap());
            }
            4 | 5 => {
                let term = Term(self.model.state.term.0 + 1);
                let vote = Some(ReplicaId(self.rng.gen_range(1..4)));
                write.state = Some(ReplicaState { term, vote, ..self.model.state.clone() });
            }
            6 | 7 => {
                let safe = self.model.synced;
                let at = self.model.entries.iter().rev().find(|e| e.index <= safe);
                write.checkpoint = at
                    .filter(|e| e.index > hw)
                    .map(|e| HighWatermark { index: e.index, offset: e.next_offset() });
            }
            _ => write.entries = self.entries(last, next),
        }
        write
    }

    fn step(&mut self) {
        let write = self.write();
        let old = self.model.clone();
        // Commits gather what waits: a vote, and then what the new leader replaces.
        let mut writes = vec![write.clone()];
        if self.rng.gen_bool(0.3) {
            let term = Term(self.model.state.term.0 + 1);
            let state = ReplicaState { term, ..self.model.state.clone() };
            writes.insert(0, Write { state: Some(state), ..Write::to(partition(0)) });
        }
        let mut new = old.clone();
        writes.iter().for_each(|write| new.apply(write));
        if self.rng.gen_bool(0.1) {
            let changes = self.rng.gen_range(0..12);
            self.disk.crash_after(changes);
        }
        let done = self.store.as_mut().unwrap().commit(writes);
        match done {
            Ok(committed) => {
                assert_eq!(committed.refused, []);
                self.model = new;
                self.disk.crash_after(u64::MAX);
                match self.rng.gen_range(0..30) {
                    0 => self.restart(|disk| disk.crash(), None),
                    1 => self.restart(|disk| disk.kill(), None),
                    2 => {
                        self.store.take().unwrap().close().unwrap();
                        self.model.synced = self.model.last().0;
                        self.restart(|disk| disk.crash(), None);
                    }
                    _ => self.check_reads(),
                }
            }
            Err(_) => {
                let again = self.store.as_mut().unwrap().commit(vec![]);
                assert!(again.is_err(), "a failed store stays failed");
                self.restart(|disk| disk.crash(), Some((old, new, write)));
            }
        }
    }

    /// Ends the process, and compares what the next finds. `torn`: the model before and after a
    /// commit that did not return.
    fn restart(&mut self, end: impl Fn(&SimDisk), torn: Option<(Model, Model, Write)>) {
        drop(self.store.take());
        end(&self.disk);
        if self.rng.gen_bool(0.2) {
            // The machine crashes again while the store is opened.
            self.disk.crash_after(self.rng.gen_range(0..15));
            drop(try_open(&self.disk));
            end(&self.disk);
        }
        let (mut store, recovered) = open(&self.disk);
        store.set_config(partition(0), self.config).unwrap();
        let r = &recovered[0];
        assert_eq!(r.corruption, None, "a crash is no corruption");
        let found = all_entries(&store);
        match torn {
            None => {
                let m = &self.model;
                assert_eq!(r.start, m.start);
                // Entries of a term that was never saved raise it.
                let saved = r.state.term == m.state.term && r.state.vote == m.state.vote;
                assert!(saved || r.state.term > m.state.term && r.state.term == r.last.1);
                assert!(m.allows(&found, r.start, m.synced), "{found:?}\n{m:?}");
            }
            Some((old, new, write)) => {
                assert!(r.start == old.start || r.start == new.start, "{:?}", r.start);
                assert!(r.state.term >= old.state.term && r.hw.index >= r.start.index);
                let cut =
                    write.truncate_from.map_or(old.synced, |from| old.synced.min(from.prev()));
                let least = if r.start == old.start { cut } else { new.synced.min(cut) };
                let as_new = new.allows(&found, r.start, least);
                let as_old = write.reset.is_none_or(|_| r.start == old.start)
                    && old.allows(&found, r.start, least);
                assert!(as_new || as_old, "{found:?}\n{old:?}\n{write:?}");
                let was_reset = write.reset.is_some() && r.start == new.start;
                self.model =
                    if was_reset || write.truncate_from.is_some() && as_new { new } else { old };
            }
        }
        self.model.start = r.start;
        self.model.entries = found;
        self.model.synced = r.last.0;
        self.model.state = r.state.clone();
        self.model.hw = r.hw;
        self.store = Some(store);
        self.check_reads();
    }

    fn check_reads(&self) {
        let store = self.store.as_ref().unwrap();
        let reader = store.reader(partition(0)).unwrap();
        let model = &self.model;
        assert_eq!((reader.last(), reader.next_offset()), (model.last(), model.next_offset()));
        let mut from = reader.start().offset;
        let shown = |e: &&Entry| e.kind == Kind::Batch && e.next_offset() > from;
        let expected: Vec<Bytes> =
            model.entries.iter().filter(shown).map(|e| e.payload.clone()).collect();
        let mut read = Vec::new();
        while from < reader.next_offset() {
            let some = reader.read(from, 5000, reader.next_offset()).unwrap();
            let Some(last) = some.last() else { break };
            from = batch::check(last).unwrap().next_offset();
            read.extend(some);
        }
        assert_eq!(read, expected);
        for e in &model.entries {
            assert_eq!(reader.term_at(e.index), Some(e.term));
        }
    }
}

/// Seeds to run; `ISOBAR_LOG_SEEDS=17..18` runs others.
fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("ISOBAR_LOG_SEEDS") else { return 0..100 };
    let (from, to) = asked.split_once("..").expect("ISOBAR_LOG_SEEDS is a range");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Runs a seed; the disk as it is in the end.
fn run(seed: u64) -> SimDisk {
    let mut run = Run::new(seed);
    for _ in 0..60 {
        run.step();
    }
    run.disk
}

#[test]
fn what_was_synced_survives_any_crash_and_nothing_is_reordered() {
    for seed in seeds() {
        let running = std::panic::catch_unwind(|| run(seed));
        let next = seed + 1;
        let again =
            format!("ISOBAR_LOG_SEEDS={seed}..{next} cargo test -p isobar log::tests::crash");
        assert!(running.is_ok(), "{again}");
    }
}

/// Else a failed seed could not be run again. Maps with a seed of their own differ within one process,
/// too.
#[test]
fn the_same_seed_leaves_the_same_bytes_on_the_disk() {
    for seed in 0..20 {
        let content = |disk: &SimDisk| -> Vec<(PathBuf, Vec<u8>)> {
            let files = disk.files().into_iter();
            files.map(|path| (path.clone(), disk.content(&path))).collect()
        };
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.counts(), second.counts(), "seed {seed}");
        assert!(content(&first) == content(&second), "seed {seed}");
    }
}
