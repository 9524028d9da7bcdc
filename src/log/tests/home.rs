//! A log that moves to another home: sealed, cut at F, extended, begun anew; and what of it is in the
//! ledger.

use proptest::prelude::*;

use super::*;
use crate::log::disk::Disk;
use crate::log::{Cut, EpochStart, Fork, HighWatermark, Ledger, LogStart, Position, Suffix};
use crate::model::HomeEpoch;

pub(crate) fn epoch(n: u32) -> HomeEpoch {
    HomeEpoch::new(n).unwrap()
}

/// The fork that lets epoch `n` go on from where this log ends.
pub(crate) fn fork_at_end(store: &Store, n: u32) -> Fork {
    let reader = store.reader(partition(0)).unwrap();
    let (index, term) = reader.last();
    let at = Position { index, term, offset: reader.next_offset() };
    Fork { home_epoch: epoch(n), at, epochs: reader.epochs() }
}

/// How epoch `n` begins at `fork`.
pub(crate) fn begun(fork: &Fork) -> ReplicaState {
    ReplicaState {
        home_epoch: fork.home_epoch,
        term: fork.home_epoch.first_term(),
        fork: Some(fork.at),
        ..state()
    }
}

pub(super) fn ledger(disk: &SimDisk) -> Vec<Suffix> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Ledger::list(&disk, Path::new("/data")).unwrap()
}

/// The batches of a suffix, as they were in the log.
pub(super) fn payloads(suffix: &Suffix) -> Vec<Bytes> {
    suffix.verify().unwrap();
    suffix.batches().unwrap().map(|stored| stored.unwrap().batch).collect()
}

fn batches_of(entries: &[Entry]) -> Vec<Bytes> {
    let batches = entries.iter().filter(|e| e.kind == Kind::Batch);
    batches.map(|e| e.payload.clone()).collect()
}

/// Entries that continue a log, of the given terms; each tells itself from all others by `name`.
pub(super) fn tail(after: &[Entry], terms: &[u64], name: u8) -> Vec<Entry> {
    let mut index = after.last().map_or(0, |e| e.index.0);
    let mut offset = after.last().map_or(0, |e| e.next_offset().0);
    let mut entries = Vec::new();
    for term in terms {
        index += 1;
        let value = [&[name][..], &index.to_be_bytes(), &[name; 60]].concat();
        let e = match index % 5 {
            0 => entry(index, TERM + term, Kind::Empty, offset, b""),
            n => batch_entry(index, TERM + term, offset, n as i64, &value),
        };
        offset = e.next_offset().0;
        entries.push(e);
    }
    entries
}

/// A store whose log has these entries, and a high watermark at entry `hw`.
pub(super) fn store_of(disk: &SimDisk, segment_bytes: u32, entries: &[Entry], hw: usize) -> Store {
    let mut store = store_with(disk, segment_bytes);
    append(&mut store, entries.to_vec());
    checkpoint(&mut store, entries, hw);
    store
}

pub(super) fn checkpoint(store: &mut Store, entries: &[Entry], hw: usize) {
    let at = hw.checked_sub(1).map(|n| &entries[n]);
    let checkpoint =
        at.map(|e| HighWatermark { index: e.index, offset: e.next_offset() }).unwrap_or_default();
    let state = Some(ReplicaState { applied: checkpoint.index, ..state() });
    let write = Write { checkpoint: Some(checkpoint), state, ..Write::to(partition(0)) };
    store.commit(vec![write]).unwrap();
}

#[test]
fn a_promise_is_durable_and_so_is_everything_that_was_written_before_it() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let mut store = store_with(&disk, 1000);
        let entries = tail(&[], &[0; 12], 1);
        store.commit(vec![Write { entries, sync: false, ..Write::to(partition(0)) }]).unwrap();
        let sealed = store.seal(partition(0), epoch(2)).unwrap();
        assert_eq!((sealed.last.0, sealed.promised), (LogIndex(12), epoch(2)));
        assert_eq!(
            (sealed.replica, sealed.damaged, sealed.installing),
            (ReplicaId(1), false, false)
        );
        drop(store);
        disk.crash();
        let (mut store, recovered) = open(&disk);
        assert!(recovered[0].state.is_sealed());
        assert_eq!(recovered[0].last, sealed.last, "what was reported is there");
        assert_eq!(store.seal(partition(0), epoch(2)).unwrap(), sealed, "and is said again");
        let older = store.seal(partition(0), epoch(1)).unwrap_err().to_string();
        assert!(older.contains("home epoch 1, and has promised 2"), "{older}");
        assert_eq!(store.seal(partition(0), epoch(3)).unwrap().promised, epoch(3));
    }
}

#[test]
#[should_panic(expected = "a write to a replica that is sealed for e2")]
fn a_sealed_replica_takes_nothing_in() {
    let mut store = store_with(&SimDisk::new(1), 1000);
    store.seal(partition(0), epoch(2)).unwrap();
    append_batches(&mut store, 1, b"late");
}

#[test]
fn a_log_is_cut_where_it_parts_goes_on_with_a_peers_entries_and_begins_anew() {
    let shared = tail(&[], &[0, 0, 0, 0, 0, 0, 0], 0);
    let ours = [shared.clone(), tail(&shared, &[0, 0, 0, 0, 0, 0], 1)].concat();
    let theirs = [shared.clone(), tail(&shared, &[1, 1, 1], 2)].concat();
    for segment_bytes in [300, 1000, 1 << 20] {
        let (disk, peer) = (SimDisk::new(1), SimDisk::new(2));
        let mut store = store_of(&disk, segment_bytes, &ours, 10);
        let peer = store_of(&peer, segment_bytes, &theirs, 7);
        let fork = fork_at_end(&peer, 2);
        store.seal(partition(0), epoch(2)).unwrap();
        let cut = store.cut_at(partition(0), &fork).unwrap();
        assert_eq!((cut.last.0, cut.holds), (LogIndex(7), false));
        assert_eq!(all_entries(&store), shared);
        let suffix = cut.suffix.clone().unwrap();
        assert_eq!(payloads(&suffix), batches_of(&ours[7..]));
        assert_eq!(ledger(&disk), std::slice::from_ref(&suffix));
        let m = &suffix.manifest;
        assert_eq!((m.topic_name.as_str(), m.node, m.replica), ("orders", node(), ReplicaId(1)));
        assert_eq!((m.old_home_epoch, m.new_home_epoch, m.fork), (epoch(1), epoch(2), fork.at));
        assert_eq!(
            (m.first_index, m.last.0, m.hw.index),
            (LogIndex(8), LogIndex(13), LogIndex(10))
        );
        assert_eq!(m.known_acknowledged(), Some((ours[7].base_offset, ours[9].next_offset())));
        assert_eq!((m.content.entries, m.content.batches), (6, 5));
        assert_eq!(store.cut_at(partition(0), &fork).unwrap(), cut, "once more changes nothing");
        // Half of it, a restart, the rest.
        store.extend(partition(0), &fork, &theirs[7..8]).unwrap();
        drop(store);
        disk.crash();
        let (mut store, recovered) = open(&disk);
        let config = Config { segment_bytes, ..Config::default() };
        store.set_config(partition(0), config).unwrap();
        assert_eq!(recovered[0].last.0, LogIndex(8));
        assert_eq!(store.cut_at(partition(0), &fork).unwrap().suffix, Some(suffix.clone()));
        let cut = store.extend(partition(0), &fork, &theirs[8..]).unwrap();
        assert!(cut.holds);
        let (recovered, reader) = store.begin_epoch(partition(0), begun(&fork)).unwrap();
        assert_eq!(recovered.state, ReplicaState { promised: epoch(2), ..begun(&fork) });
        assert!(!recovered.state.is_sealed());
        assert_eq!(recovered.hw.index, LogIndex(7), "not raised to F");
        let new = tail(&theirs, &[1 << 17, 1 << 17], 3);
        append(&mut store, new.clone());
        assert_eq!(reader.last().0, LogIndex(12));
        drop(store);
        disk.crash();
        let (store, recovered) = open(&disk);
        assert_eq!(all_entries(&store), [theirs.clone(), new].concat());
        assert_eq!(recovered[0].state.home_epoch, epoch(2));
        assert_eq!(payloads(&ledger(&disk)[0]), batches_of(&ours[7..]));
    }
}

#[test]
fn only_the_epoch_that_was_promised_last_may_cut_or_begin() {
    let entries = tail(&[], &[0; 6], 1);
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 1000, &entries, 3);
    let fork = |n| Fork { at: position(&entries, 4), ..fork_at_end_of(&entries, n) };
    let refused = |result: Result<Cut, Error>, expected: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(store.cut_at(partition(0), &fork(2)), "epoch 2 is not the one that was promised");
    store.seal(partition(0), epoch(3)).unwrap();
    refused(store.cut_at(partition(0), &fork(2)), "promised 3");
    refused(store.extend(partition(0), &fork(4), &[]), "epoch 4 is not the one");
    let not_cut = store.begin_epoch(partition(0), begun(&fork(3))).unwrap_err().to_string();
    assert!(
        not_cut.contains("which ends at entry 6, was not cut at 4 for home epoch 3"),
        "{not_cut}"
    );
    refused(store.extend(partition(0), &fork(3), &entries[4..5]), "was not cut at 4");
    assert_eq!(all_entries(&store), entries);
    store.cut_at(partition(0), &fork(3)).unwrap();
    store.begin_epoch(partition(0), begun(&fork(3))).unwrap();
    refused(store.cut_at(partition(0), &fork(3)), "promised 3, in 3");
    let again = store.begin_epoch(partition(0), begun(&fork(3)));
    assert!(matches!(again, Err(Error::NotSealed { .. })), "{again:?}");
}

fn position(entries: &[Entry], index: usize) -> Position {
    let e = &entries[index - 1];
    Position { index: e.index, term: e.term, offset: e.next_offset() }
}

fn epochs_of(entries: &[Entry]) -> Vec<EpochStart> {
    let mut epochs: Vec<EpochStart> = Vec::new();
    for e in entries {
        if epochs.last().is_none_or(|last| last.term != e.term) {
            epochs.push(EpochStart { term: e.term, index: e.index, offset: e.base_offset });
        }
    }
    epochs
}

/// The fork at the end of a log of these entries.
fn fork_at_end_of(entries: &[Entry], n: u32) -> Fork {
    let at =
        if entries.is_empty() { Position::default() } else { position(entries, entries.len()) };
    Fork { home_epoch: epoch(n), at, epochs: epochs_of(entries) }
}

#[test]
fn entries_that_are_not_of_the_fork_are_refused_and_change_nothing() {
    let theirs = tail(&[], &[0, 0, 0, 1, 1, 1, 1], 2);
    let fork = fork_at_end_of(&theirs[..6], 2);
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 1000, &theirs[..3], 3);
    store.seal(partition(0), epoch(2)).unwrap();
    store.cut_at(partition(0), &fork).unwrap();
    let mut refused = |entries: &[Entry], expected: &str| {
        let error = store.extend(partition(0), &fork, entries).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(all_entries(&store), theirs[..3]);
    };
    refused(&theirs[4..5], "entry 5 where 4 continues the log");
    refused(&theirs[3..], "entry 7 of term 131073 is not of the log that ends at 6");
    refused(&tail(&theirs[..3], &[0], 1), "entry 4 of term 131072 is not of the log");
    refused(&tail(&theirs[..3], &[2], 1), "entry 4 of term 131074 is not of the log");
    let mut other = theirs[3..6].to_vec();
    other[2] = batch_entry(6, TERM + 1, other[2].base_offset.0, 9, b"more records");
    refused(&other, "entry 6 of term 131073 is not of the log");
    let mut rotten = theirs[3].clone();
    rotten.payload = [&rotten.payload[..80], &b"x"[..], &rotten.payload[81..]].concat().into();
    refused(&[rotten], "no record batch");
    assert!(store.extend(partition(0), &fork, &theirs[3..6]).unwrap().holds);
}

#[test]
fn a_log_that_is_not_to_be_compared_is_set_aside_whole_and_begins_anew() {
    let ours = tail(&[], &[0; 20], 1);
    let theirs = tail(&[], &[0, 0, 0, 0], 1);
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 400, &ours, 18);
    let segments = store.reader(partition(0)).unwrap().segments();
    let start = store.reader(partition(0)).unwrap();
    let start = start.start_for(segments[6].base_offset, LogIndex(18)).unwrap();
    assert!(start.index > LogIndex(4), "retention has overtaken F");
    store.commit(vec![Write { start: Some(start), ..Write::to(partition(0)) }]).unwrap();
    store.seal(partition(0), epoch(2)).unwrap();
    let fork = fork_at_end_of(&theirs, 2);
    let refused = store.cut_at(partition(0), &fork).unwrap_err();
    assert!(matches!(refused, Error::NothingInCommon { fork: LogIndex(4), .. }), "{refused}");
    assert_eq!(ledger(&disk), []);
    let cut = store.set_aside(partition(0), &fork).unwrap();
    assert_eq!((cut.last, cut.next_offset, cut.holds), (Default::default(), Offset(0), false));
    assert_eq!(payloads(&cut.suffix.unwrap()), batches_of(&ours[start.index.0 as usize..]));
    assert_eq!(store.reader(partition(0)).unwrap().start(), LogStart::default());
    assert!(store.extend(partition(0), &fork, &theirs).unwrap().holds);
    store.begin_epoch(partition(0), begun(&fork)).unwrap();
    // Ours ends before the next one begins. That the move to epoch 2 had cut it off must not be said of it.
    store.seal(partition(0), epoch(3)).unwrap();
    let cut = store.set_aside(partition(0), &fork_at_end_of(&ours[10..], 3)).unwrap();
    let m = cut.suffix.unwrap().manifest;
    assert_eq!((m.old_home_epoch, m.new_home_epoch), (epoch(2), epoch(3)));
    assert_eq!(m.last.1.home_epoch(), epoch(1), "nothing was written in epoch 2");
}

/// Seed 1882951022280880 of the simulator.
#[test]
fn a_log_start_beyond_the_cut_goes_back_to_it() {
    let ours = tail(&[], &[0; 9], 1);
    let theirs = [ours[..3].to_vec(), tail(&ours[..3], &[1; 9], 2)].concat();
    for (cut, deleted) in [(3, 7), (0, 7), (3, 2)] {
        let disk = SimDisk::new(1);
        let mut store = store_of(&disk, 1 << 20, &ours, 8);
        let reader = store.reader(partition(0)).unwrap();
        let start = reader.start_for(ours[deleted].base_offset, LogIndex(8)).unwrap();
        assert_eq!(start.index, LogIndex(0), "in a segment that stays");
        store.commit(vec![Write { start: Some(start), ..Write::to(partition(0)) }]).unwrap();
        store.seal(partition(0), epoch(2)).unwrap();
        let theirs = if cut == 0 { tail(&[], &[1; 9], 2) } else { theirs.clone() };
        let fork = fork_at_end_of(&theirs, 2);
        assert_eq!(store.cut_at(partition(0), &fork).unwrap().last.0, LogIndex(cut));
        let expected = start.offset.min(theirs[cut as usize].base_offset);
        assert_eq!(store.reader(partition(0)).unwrap().start().offset, expected);
        assert!(store.extend(partition(0), &fork, &theirs[cut as usize..]).unwrap().holds);
        drop(store);
        disk.crash();
        let (_, recovered) = open(&disk);
        assert_eq!(recovered[0].start.offset, expected, "{cut} {deleted}");
        assert_eq!(recovered[0].next_offset, fork.at.offset);
    }
}

#[test]
fn a_move_that_is_decided_anew_at_another_fork_leaves_two_suffixes() {
    let shared = tail(&[], &[0; 3], 0);
    let [one, two, three] =
        [1, 2, 3].map(|n| [shared.clone(), tail(&shared, &[u64::from(n); 3], n)].concat());
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 1 << 20, &one, 0);
    store.seal(partition(0), epoch(2)).unwrap();
    for log in [&two, &three] {
        let fork = fork_at_end_of(log, 2);
        store.cut_at(partition(0), &fork).unwrap();
        store.extend(partition(0), &fork, &log[3..]).unwrap();
    }
    let found = ledger(&disk);
    let names: Vec<&str> = found.iter().map(Suffix::name).collect();
    assert_eq!(names, ["00002-00000000000000000004", "00002-00000000000000000004-1"]);
    assert_eq!(payloads(&found[0]), batches_of(&one[3..]));
    assert_eq!(payloads(&found[1]), batches_of(&two[3..]));
    assert_eq!(all_entries(&store), three);
}

#[test]
fn producer_snapshots_of_what_was_cut_off_never_come_back() {
    let shared = tail(&[], &[0; 4], 0);
    let ours = [shared.clone(), tail(&shared, &[0; 4], 1)].concat();
    let theirs = [shared.clone(), tail(&shared, &[1; 6], 2)].concat();
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let mut store = store_of(&disk, 1 << 20, &ours, 4);
        for index in [3, 7] {
            let content = Bytes::from(format!("state after {index}"));
            let snapshot = Some((LogIndex(index), content));
            let write = Write { producer_snapshot: snapshot, ..Write::to(partition(0)) };
            store.commit(vec![write]).unwrap();
        }
        let fork = fork_at_end_of(&theirs, 2);
        store.seal(partition(0), epoch(2)).unwrap();
        store.cut_at(partition(0), &fork).unwrap();
        store.extend(partition(0), &fork, &theirs[4..]).unwrap();
        drop(store);
        disk.crash();
        let found = open(&disk).1[0].producer_snapshot.clone();
        assert_eq!(found, Some((LogIndex(3), Bytes::from_static(b"state after 3"))), "seed {seed}");
    }
}

#[test]
fn a_ledger_that_has_no_room_refuses_the_cut_and_loses_nothing() {
    let ours = tail(&[], &[0; 20], 1);
    let fork = fork_at_end_of(&ours[..5], 2);
    let (mut refusals, mut ended) = (0, 0);
    // Up to the last byte of what it takes; the journal wants some more.
    for spare in (0..5000).step_by(25) {
        let disk = SimDisk::new(1);
        let mut store = store_of(&disk, 1 << 20, &ours, 12);
        store.seal(partition(0), epoch(2)).unwrap();
        disk.set_capacity(disk.used_bytes() + spare);
        let cut = match store.cut_at(partition(0), &fork) {
            Err(Error::OutOfSpace(_)) => {
                refusals += 1;
                assert_eq!(all_entries(&store), ours, "nothing was cut");
                assert_eq!(ledger(&disk), []);
                disk.set_capacity(1 << 30);
                store.cut_at(partition(0), &fork).unwrap()
            }
            Err(_) => {
                // No room for the journal, where a node has its reserve: the process ends.
                ended += 1;
                drop(store);
                disk.kill();
                disk.set_capacity(1 << 30);
                store = open(&disk).0;
                store.cut_at(partition(0), &fork).unwrap()
            }
            Ok(cut) => cut,
        };
        assert_eq!(payloads(&cut.suffix.unwrap()), batches_of(&ours[5..]));
        assert_eq!(all_entries(&store), ours[..5]);
    }
    assert!(refusals > 100 && ended > 0 && refusals + ended < 200, "{refusals} {ended}");
}

#[test]
fn a_log_with_rot_in_what_is_to_be_cut_off_is_refused() {
    let ours = tail(&[], &[0; 20], 1);
    let fork = fork_at_end_of(&ours[..5], 2);
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 1 << 20, &ours, 12);
    store.seal(partition(0), epoch(2)).unwrap();
    let path = files(&disk, ".log")[0].clone();
    let size = disk.content(&path).len() as u64;
    disk.flip(&path, size - 5, 1);
    let refused = store.cut_at(partition(0), &fork).unwrap_err();
    assert!(matches!(refused, Error::Corrupt { index: LogIndex(20), .. }), "{refused}");
    assert_eq!((ledger(&disk), disk.content(&path).len() as u64), (vec![], size));
    drop(store);
    disk.kill();
    // A log that the start finds damaged promises, but is not cut.
    disk.flip(&path, 56 + 40 + 3, 1);
    let (mut store, recovered) = open(&disk);
    assert!(recovered[0].corruption.is_some());
    assert!(store.seal(partition(0), epoch(2)).unwrap().damaged);
    let refused = store.cut_at(partition(0), &fork).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert_eq!(store.seal(partition(0), epoch(3)).unwrap().promised, epoch(3));
}

#[test]
fn a_suffix_that_rots_or_shrinks_does_not_verify() {
    let ours = tail(&[], &[0; 20], 1);
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 500, &ours, 12);
    store.seal(partition(0), epoch(2)).unwrap();
    let suffix =
        store.cut_at(partition(0), &fork_at_end_of(&ours[..5], 2)).unwrap().suffix.unwrap();
    suffix.verify().unwrap();
    let segments: Vec<PathBuf> = disk
        .files()
        .into_iter()
        .filter(|path| path.starts_with(&suffix.dir) && path.extension().unwrap() == "log")
        .collect();
    assert!(segments.len() > 3, "one copied and others renamed");
    for path in &segments {
        for at in (0..disk.content(path).len() as u64).step_by(7) {
            disk.flip(path, at, 1);
            assert!(suffix.verify().is_err(), "{} byte {at}", path.display());
            disk.flip(path, at, 1);
        }
    }
    disk.remove_file(segments.last().unwrap()).unwrap();
    let error = suffix.verify().unwrap_err().to_string();
    assert!(error.contains("the manifest says 15 entries up to 20"), "{error}");
}

#[test]
fn a_removed_partition_leaves_its_ledger() {
    let ours = tail(&[], &[0; 9], 1);
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 500, &ours, 9);
    store.seal(partition(0), epoch(2)).unwrap();
    store.cut_at(partition(0), &fork_at_end_of(&ours[..5], 2)).unwrap();
    store.remove(partition(0)).unwrap();
    drop(store);
    disk.crash();
    assert!(open(&disk).1.is_empty());
    assert_eq!(payloads(&ledger(&disk)[0]), batches_of(&ours[5..]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Two logs that part anywhere: what is left and what is in the ledger are the log as it was, and
    /// what is left is exactly what the two had in common.
    #[test]
    fn what_is_left_and_what_is_saved_are_the_log_as_it_was(
        shared in proptest::collection::vec(0u64..2, 0..12),
        ours in proptest::collection::vec(0u64..2, 0..12),
        theirs in proptest::collection::vec(0u64..2, 0..12),
        segment_bytes in 200u32..3000,
        hw in any::<prop::sample::Index>(),
    ) {
        let rising = |from: u64, steps: &[u64], odd: u64| -> Vec<u64> {
            let mut term = from;
            steps.iter().map(|step| { term += 2 * step; term + odd }).collect()
        };
        let shared = tail(&[], &rising(0, &shared, 0), 0);
        let top = shared.last().map_or(0, |e| e.term.0 - TERM) + 2;
        let ours = [shared.clone(), tail(&shared, &rising(top, &ours, 0), 1)].concat();
        let theirs = [shared.clone(), tail(&shared, &rising(top, &theirs, 1), 2)].concat();
        let disk = SimDisk::new(1);
        let mut store = store_of(&disk, segment_bytes, &ours, hw.index(ours.len() + 1));
        store.seal(partition(0), epoch(2)).unwrap();
        let fork = fork_at_end_of(&theirs, 2);
        let cut = store.cut_at(partition(0), &fork).unwrap();
        prop_assert_eq!(all_entries(&store), shared.clone());
        prop_assert_eq!(cut.suffix.is_some(), ours.len() > shared.len());
        let saved = cut.suffix.map(|suffix| payloads(&suffix)).unwrap_or_default();
        prop_assert_eq!([batches_of(&shared), saved].concat(), batches_of(&ours));
        prop_assert_eq!(cut.holds, theirs.len() == shared.len());
        let cut = store.extend(partition(0), &fork, &theirs[shared.len()..]).unwrap();
        prop_assert!(cut.holds);
        let (recovered, _) = store.begin_epoch(partition(0), begun(&fork)).unwrap();
        prop_assert!(recovered.hw.index.0 as usize <= shared.len());
        prop_assert_eq!(all_entries(&store), theirs);
    }
}
