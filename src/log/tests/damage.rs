//! Torn, rotten, full and failing disks (R20 to R22): what is cut, what is reported, what is refused.

use super::*;
use crate::log::disk::Disk;
use crate::log::{Corruption, Error, HighWatermark, OutOfSpace, SegmentMeta, Space, segment};

/// A log of `synced` entries under the durable mark and `more` after it, all in one segment, and
/// where in the file each of its frames begins.
fn marked(disk: &SimDisk, synced: u64, more: u64) -> (PathBuf, Vec<u64>) {
    let mut store = store_with(disk, 1 << 20);
    append_batches(&mut store, synced, b"value");
    let hw = HighWatermark { index: LogIndex(synced), offset: Offset(2 * synced as i64) };
    let entries = batches((LogIndex(synced), Term(TERM)), hw.offset, TERM, more, b"value");
    let mark = Write { checkpoint: Some(hw), ..Write::to(partition(0)) };
    store.commit(vec![mark, Write { entries, ..Write::to(partition(0)) }]).unwrap();
    let mut positions = vec![56];
    for e in all_entries(&store) {
        positions.push(positions.last().unwrap() + 40 + e.payload.len() as u64);
    }
    drop(store);
    disk.kill();
    (files(disk, ".log")[0].clone(), positions)
}

#[test]
fn a_tail_torn_at_any_byte_after_the_mark_is_cut_to_the_last_whole_entry() {
    let (_, positions) = marked(&SimDisk::new(1), 3, 2);
    for size in positions[3]..positions[5] {
        let disk = SimDisk::new(1);
        let (path, _) = marked(&disk, 3, 2);
        let whole = disk.content(&path);
        disk.write_durable(&path, &whole[..size as usize]);
        let (mut store, recovered) = open(&disk);
        let last = positions.iter().rposition(|at| *at <= size).unwrap() as u64;
        let r = &recovered[0];
        assert_eq!((r.last.0, r.corruption), (LogIndex(last), None), "cut to {size}");
        assert_eq!(r.torn_bytes, size - positions[last as usize]);
        append_batches(&mut store, 1, b"goes on");
        assert_eq!(all_entries(&store).len() as u64, last + 1);
    }
}

#[test]
fn zeroes_or_garbage_after_the_mark_are_no_entries() {
    for garbage in [vec![0; 5000], vec![0xa5; 5000], b"\0\0\0\x09\x01\x01".to_vec()] {
        let disk = SimDisk::new(1);
        let (path, positions) = marked(&disk, 3, 2);
        let torn = [&disk.content(&path)[..positions[4] as usize], &garbage].concat();
        disk.write_durable(&path, &torn);
        let (store, recovered) = open(&disk);
        assert_eq!((recovered[0].last.0, recovered[0].corruption), (LogIndex(4), None));
        assert_eq!(all_entries(&store).len(), 4);
        assert_eq!(disk.content(&path).len() as u64, positions[4], "and they are cut off");
    }
}

#[test]
fn a_rotten_bit_before_the_mark_is_reported_and_nothing_is_cut() {
    let (_, positions) = marked(&SimDisk::new(1), 3, 2);
    // In the frame of entry 2, and in the last batch under the mark, which is checked whole.
    for (at, first) in [(positions[1] + 14, 2), (positions[3] - 1, 3)] {
        let disk = SimDisk::new(1);
        let (path, _) = marked(&disk, 3, 2);
        let size = disk.content(&path).len();
        disk.flip(&path, at, 0x10);
        let (store, recovered) = open(&disk);
        let r = &recovered[0];
        let expected = Corruption { first: LogIndex(first), last: LogIndex(3) };
        assert_eq!(r.corruption, Some(expected));
        assert_eq!(r.last.0, LogIndex(first - 1), "the log ends before the damage");
        assert_eq!(disk.content(&path).len(), size, "nothing was cut");
        assert_eq!(all_entries(&store).len() as u64, first - 1);
        drop(store);
        disk.flip(&path, at, 0x10);
        let (_, recovered) = open(&disk);
        assert_eq!((recovered[0].corruption, recovered[0].last.0), (None, LogIndex(5)));
        disk.kill();
    }
}

#[test]
fn a_rotten_bit_in_a_closed_segment_is_damage_whatever_the_mark_says() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1000);
    append_batches(&mut store, 30, &[b'a'; 100]);
    let segments = store.reader(partition(0)).unwrap().segments();
    drop(store);
    disk.kill();
    let path = files(&disk, ".log")[1].clone();
    disk.flip(&path, 56 + 40 + 70, 1);
    // With its index the segment is not read at the start; a reader finds it.
    let (store, recovered) = open(&disk);
    assert_eq!(recovered[0].corruption, None);
    let reader = store.reader(partition(0)).unwrap();
    let base = segments[1].base_index;
    let read = reader.entries(base, base.next(), 1);
    assert!(matches!(read, Err(Error::Corrupt { index, .. }) if index == base), "{read:?}");
    drop(store);
    disk.kill();
    disk.remove_file(&path.with_extension("index")).unwrap();
    let (store, recovered) = open(&disk);
    let r = &recovered[0];
    assert_eq!(r.corruption.unwrap().first, base);
    assert_eq!(r.last.0, base.prev());
    drop(store);
    disk.kill();
    // A whole segment that is missing is damage as well.
    disk.flip(&path, 56 + 40 + 70, 1);
    disk.remove_file(&files(&disk, ".log")[3]).unwrap();
    let (_, recovered) = open(&disk);
    assert_eq!(recovered[0].corruption.unwrap().first, segments[3].base_index);
}

#[test]
fn a_damaged_log_is_cut_on_purpose_and_refetched_from_peers() {
    for segment_bytes in [1000, 1 << 20] {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, segment_bytes);
        append_batches(&mut store, 30, &[b'a'; 100]);
        let good = all_entries(&store);
        let hw = HighWatermark { index: LogIndex(30), offset: Offset(60) };
        let write = Write { checkpoint: Some(hw), ..Write::to(partition(0)) };
        store.commit(vec![write]).unwrap();
        drop(store);
        disk.kill();
        for path in files(&disk, ".index") {
            disk.remove_file(&path).unwrap();
        }
        // In the frame of the second entry: payloads below the mark are not read at the start.
        let second = 56 + 40 + good[0].payload.len() as u64;
        disk.flip(&files(&disk, ".log")[0], second + 14, 1);
        let (mut store, recovered) = open(&disk);
        let config = Config { segment_bytes, ..Config::default() };
        store.set_config(partition(0), config).unwrap();
        let first = recovered[0].corruption.unwrap().first;
        let write = Write {
            truncate_from: Some(first),
            state: Some(ReplicaState { installing: true, ..state() }),
            ..Write::to(partition(0))
        };
        store.commit(vec![write]).unwrap();
        append(&mut store, good[first.0 as usize - 1..].to_vec());
        let write = Write { state: Some(state()), ..Write::to(partition(0)) };
        store.commit(vec![write]).unwrap();
        assert_eq!(all_entries(&store), good);
        drop(store);
        disk.crash();
        let (store, recovered) = open(&disk);
        assert_eq!((recovered[0].corruption, recovered[0].state.installing), (None, false));
        assert_eq!(all_entries(&store), good);
    }
}

/// Seed 1882644570702271 of the simulator: the vote's record, made before the truncation, followed
/// that of the truncation with the durable mark from before it.
#[test]
fn a_vote_and_a_truncation_in_one_commit_leave_no_damage() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    append_batches(&mut store, 5, b"value");
    let hw = HighWatermark { index: LogIndex(2), offset: Offset(4) };
    let mark = Write { checkpoint: Some(hw), ..Write::to(partition(0)) };
    store.commit(vec![mark]).unwrap();
    let vote = ReplicaState { term: Term(TERM + 1), vote: Some(ReplicaId(1)), ..state() };
    let vote = Write { state: Some(vote), ..Write::to(partition(0)) };
    let cut = Write { truncate_from: Some(LogIndex(4)), ..Write::to(partition(0)) };
    store.commit(vec![vote, cut]).unwrap();
    drop(store);
    disk.crash();
    let (_, recovered) = open(&disk);
    let r = &recovered[0];
    assert_eq!((r.last.0, r.corruption, r.state.term), (LogIndex(3), None, Term(TERM + 1)));
}

#[test]
fn a_failed_sync_ends_the_store_and_the_restart_believes_only_the_device() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    append_batches(&mut store, 3, b"synced");
    disk.fail_sync(".log");
    let entries = batches((LogIndex(3), Term(TERM)), Offset(6), TERM, 2, b"lost");
    let failed = store.commit(vec![Write { entries, ..Write::to(partition(0)) }]).unwrap_err();
    assert!(failed.to_string().contains("sync /data/partitions/"), "{failed}");
    let again = store.commit(vec![]).unwrap_err();
    assert!(matches!(again.source, Error::Poisoned { .. }));
    drop(store);
    // The machine goes on, and its page cache still shows all five.
    disk.kill();
    let (store, recovered) = open(&disk);
    assert_eq!((recovered[0].last.0, recovered[0].corruption), (LogIndex(3), None));
    assert_eq!(all_entries(&store).len(), 3);
}

#[test]
fn a_failed_sync_of_the_journal_ends_the_store() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    disk.fail_sync(".journal");
    let vote = ReplicaState { term: Term(TERM + 1), vote: Some(ReplicaId(2)), ..state() };
    let write = Write { state: Some(vote), ..Write::to(partition(0)) };
    assert!(store.commit(vec![write]).is_err());
    drop(store);
    disk.kill();
    assert_eq!(open(&disk).1[0].state, state(), "a vote that was not durable was not given");
}

#[test]
fn a_failed_sync_of_a_log_that_is_made_ends_the_store_and_a_full_disk_does_not() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    let make = |store: &mut Store, n| store.create(partition(n), "t", state(), Config::default());
    disk.set_capacity(disk.used_bytes());
    assert!(make(&mut store, 1).unwrap_err().is_out_of_space());
    disk.set_capacity(1 << 30);
    make(&mut store, 1).unwrap();
    disk.fail_sync("partition.toml");
    make(&mut store, 2).unwrap_err();
    let again = make(&mut store, 2).unwrap_err();
    assert!(matches!(again, Error::Poisoned { .. }), "its name may never be durable: {again}");
    assert!(store.check_disk().is_err());
}

#[test]
fn a_full_disk_refuses_appends_and_leaves_the_log_as_it_was() {
    for segment_bytes in [700, 1 << 20] {
        for room in (0..3000).step_by(97) {
            let disk = SimDisk::new(1);
            let mut store = store_with(&disk, segment_bytes);
            append_batches(&mut store, 3, &[b'a'; 100]);
            let before = all_entries(&store);
            disk.set_capacity(disk.used_bytes() + room);
            let committed = append_batches(&mut store, 8, &[b'a'; 200]);
            let [OutOfSpace { needed_bytes, .. }] = committed.refused[..] else {
                panic!("room for {room} bytes and {committed:?}")
            };
            assert!(needed_bytes > room || segment_bytes == 700);
            assert_eq!(all_entries(&store), before, "room for {room}");
            // A checkpoint is not worth an error, and with room again all goes on.
            let hw = HighWatermark { index: LogIndex(1), offset: Offset(2) };
            let write = Write { checkpoint: Some(hw), ..Write::to(partition(0)) };
            store.commit(vec![write]).unwrap();
            disk.set_capacity(1 << 30);
            assert_eq!(append_batches(&mut store, 8, &[b'a'; 200]).refused, []);
            let after = all_entries(&store);
            drop(store);
            disk.crash();
            assert_eq!(all_entries(&open(&disk).0), after);
        }
    }
}

#[test]
fn the_reserve_is_left_for_votes() {
    let disk = SimDisk::new(1);
    drop(store_with(&disk, 1 << 20));
    let options = Options {
        produce_reserve_bytes: 20_000,
        append_reserve_bytes: 10_000,
        ..Options::default()
    };
    let opened = Store::open(Arc::new(disk.clone()), Path::new("/data"), node(), [7; 16], options);
    let mut store = opened.unwrap().0;
    disk.set_capacity(disk.used_bytes() + 25_000);
    append_batches(&mut store, 1, &[b'a'; 1000]);
    assert_eq!(store.space(), Space::Ample);
    append_batches(&mut store, 1, &[b'a'; 4000]);
    assert_eq!(store.space(), Space::RefuseProduce);
    assert_eq!(append_batches(&mut store, 1, &[b'a'; 10_000]).refused.len(), 1);
    let vote = ReplicaState { term: Term(TERM + 1), ..state() };
    let write = Write { state: Some(vote.clone()), ..Write::to(partition(0)) };
    assert_eq!(store.commit(vec![write]).unwrap().refused, []);
    drop(store);
    disk.crash();
    assert_eq!(open(&disk).1[0].state, vote);
}

#[test]
fn a_journal_that_is_gone_or_a_log_it_does_not_know_is_refused() {
    let disk = SimDisk::new(1);
    drop(store_with(&disk, 1 << 20));
    let open = || {
        let disk = Arc::new(disk.clone());
        Store::open(disk, Path::new("/data"), node(), [7; 16], options()).map(|_| ())
    };
    let log = super::super::store::partition_dir(Path::new("/data"), partition(5));
    disk.create_dir_all(&log).unwrap();
    disk.write_durable(&log.join("partition.toml"), b"topic = \"t\"");
    open().unwrap();
    assert!(!disk.exists(&log).unwrap(), "a partition that was never born is cleared away");
    disk.create_dir_all(&log).unwrap();
    disk.write_durable(&log.join("00000000000000000001.log"), b"entries");
    assert!(matches!(open(), Err(Error::Orphan { .. })));
    for path in disk.files() {
        if path.to_str().unwrap().ends_with(".journal") {
            disk.remove_file(&path).unwrap();
        }
    }
    assert!(matches!(open(), Err(Error::JournalMissing { .. })));
}

#[test]
fn a_saved_index_does_not_outlive_the_entries_it_was_made_of() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let mut store = store_with(&disk, 1 << 20);
        append_batches(&mut store, 10, &[b'a'; 3000]);
        store.close().unwrap();
        disk.kill();
        let mut store = open(&disk).0;
        let entries = batches((LogIndex(5), Term(TERM)), Offset(10), TERM + 1, 5, &[b'b'; 3000]);
        let truncate_from = Some(LogIndex(6));
        let write = Write { truncate_from, entries, ..Write::to(partition(0)) };
        store.commit(vec![write]).unwrap();
        let vote = ReplicaState { term: Term(TERM + 1), ..state() };
        store.commit(vec![Write { state: Some(vote), ..Write::to(partition(0)) }]).unwrap();
        drop(store);
        disk.crash();
        let reader = open(&disk).0.reader(partition(0)).unwrap();
        let terms: Vec<u64> = (4..8).map(|n| reader.term_at(LogIndex(n)).unwrap().0).collect();
        assert_eq!(terms, [TERM, TERM, TERM + 1, TERM + 1], "seed {seed}");
    }
}

#[test]
fn any_rotten_byte_is_repaired_reported_or_cut_after_the_mark_and_never_silent() {
    let built = |seed| {
        let disk = SimDisk::new(seed);
        let mut store = store_with(&disk, 1500);
        append_batches(&mut store, 20, &[b'a'; 100]);
        let hw = HighWatermark { index: LogIndex(18), offset: Offset(36) };
        let checkpoint = Write { checkpoint: Some(hw), ..Write::to(partition(0)) };
        store.commit(vec![checkpoint]).unwrap();
        let entries = all_entries(&store);
        drop(store);
        disk.kill();
        (disk, entries)
    };
    let (disk, _) = built(1);
    let (mut reported, mut found_by_reader) = (0, 0);
    for path in files(&disk, "") {
        if path.ends_with("partition.toml") {
            continue;
        }
        for at in (0..disk.content(&path).len() as u64).step_by(7) {
            let (disk, entries) = built(1);
            disk.flip(&path, at, 0x04);
            let (store, recovered) = open(&disk);
            let reader = store.reader(partition(0)).unwrap();
            let end = reader.last().0.next();
            let mut good = 0;
            for index in 1..end.0 {
                let read = reader.entries(LogIndex(index), LogIndex(index + 1), 1);
                match read {
                    Ok(read) => {
                        assert_eq!(read[0], entries[index as usize - 1]);
                        good += 1;
                    }
                    Err(Error::Corrupt { path, .. }) => {
                        found_by_reader += 1;
                        let suspect = reader.take_suspect().unwrap();
                        let holds =
                            |s: &SegmentMeta| s.base_index <= suspect && suspect <= s.last_index;
                        let segment = reader.segments().into_iter().find(holds).unwrap();
                        assert!(
                            path.ends_with(segment::file_name(segment.base_index)),
                            "{suspect}"
                        );
                    }
                    Err(error) => panic!("{} at {at}: {error}", path.display()),
                }
            }
            reported += usize::from(recovered[0].corruption.is_some());
            let whole = recovered[0].corruption.is_some() || end.0 > 20;
            assert!(whole, "{} at {at}: {good} entries and no word", path.display());
        }
    }
    assert!(reported > 0 && found_by_reader > 0, "{reported} {found_by_reader}");
}

/// Seed 1152921504607391415 of the simulator: a start reads all that is beyond the watermark.
#[test]
fn what_rots_beyond_the_watermark_closes_a_replica_and_keeps_no_node_from_starting() {
    let built = || {
        let disk = SimDisk::new(1);
        append_batches(&mut store_with(&disk, 400), 12, &[b'a'; 100]);
        disk.kill();
        disk
    };
    let mut closed = files(&built(), ".log");
    closed.pop();
    let mut reported = 0;
    for path in &closed {
        for at in 0..built().content(path).len() as u64 {
            let disk = built();
            disk.flip(path, at, 0x04);
            let (store, recovered) = open(&disk);
            let reader = store.reader(partition(0)).unwrap();
            assert_eq!(reader.corruption(), recovered[0].corruption);
            reported += usize::from(recovered[0].corruption.is_some());
        }
    }
    assert!(reported > 10 * closed.len(), "{reported}");
}
