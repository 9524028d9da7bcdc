//! One thing after another: what is written is read, and is there after a restart.

use super::*;
use crate::log::{Error, HighWatermark, LogStart, Timestamped};

#[test]
fn what_was_appended_is_read_and_is_there_after_a_restart() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    append(&mut store, vec![entry(1, TERM, Kind::Empty, 0, b"")]);
    append_batches(&mut store, 3, b"value");
    append(&mut store, vec![entry(5, TERM, Kind::ConfChange, 6, b"conf")]);
    append(&mut store, vec![entry(6, TERM, Kind::Control(3), 6, b"start")]);
    append_batches(&mut store, 1, b"value");
    let before = all_entries(&store);
    assert_eq!(before.len(), 7);
    drop(store);
    disk.crash();
    let (store, recovered) = open(&disk);
    assert_eq!(all_entries(&store), before);
    let r = &recovered[0];
    assert_eq!(
        (r.topic_name.as_str(), r.last, r.next_offset),
        ("orders", (LogIndex(7), Term(TERM)), Offset(8))
    );
    assert_eq!((r.torn_bytes, r.corruption), (0, None));
    let tail: Vec<u64> = r.tail.iter().map(|m| m.index.0).collect();
    assert_eq!(tail, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_read_gives_whole_batches_from_the_one_that_holds_the_offset() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    append_batches(&mut store, 5, &[b'x'; 3000]);
    let reader = store.reader(partition(0)).unwrap();
    let bases = |from, max, limit| -> Vec<i64> {
        let read = reader.read(Offset(from), max, Offset(limit)).unwrap();
        read.iter().map(|b| batch::check(b).unwrap().base_offset.0).collect()
    };
    assert_eq!(bases(0, 1 << 20, 10), [0, 2, 4, 6, 8]);
    assert_eq!(bases(3, 1 << 20, 10), [2, 4, 6, 8]);
    assert_eq!(bases(3, 1, 10), [2], "the first batch whatever its size");
    assert_eq!(bases(0, 13_000, 10), [0, 2]);
    assert_eq!(
        bases(0, 1 << 20, 7),
        [0, 2, 4],
        "a batch that reaches beyond the limit is not shown"
    );
    assert_eq!(bases(10, 1, 10), [0i64; 0]);
    assert!(matches!(reader.read(Offset(11), 1, Offset(20)), Err(Error::OutOfRange { .. })));
}

#[test]
fn segments_roll_and_every_entry_is_found_in_them() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 2000);
    for _ in 0..20 {
        append_batches(&mut store, 3, &[b'x'; 100]);
    }
    let reader = store.reader(partition(0)).unwrap();
    assert!(reader.segments().len() > 5);
    for restart in 0..3 {
        let reader = store.reader(partition(0)).unwrap();
        for index in 1..=60 {
            let one = reader.entries(LogIndex(index), LogIndex(index + 1), 1).unwrap();
            assert_eq!((one.len(), one[0].index), (1, LogIndex(index)), "restart {restart}");
            let offset = Offset(2 * (index as i64) - 1);
            let batch = reader.read(offset, 1, Offset(120)).unwrap();
            assert_eq!(batch[0], one[0].payload);
            let found = reader.offset_for_timestamp(offset.0, Offset(120)).unwrap();
            let expected = Timestamped { offset, timestamp: offset.0, term: Term(TERM) };
            assert_eq!(found, Some(expected));
        }
        assert_eq!(reader.offset_for_timestamp(120, Offset(120)).unwrap(), None);
        assert_eq!(reader.offset_for_timestamp(50, Offset(50)).unwrap(), None);
        if restart == 1 {
            for path in files(&disk, ".index") {
                disk.write_durable(&path, b"garbage");
            }
        }
        drop(reader);
        drop(store);
        disk.crash();
        store = open(&disk).0;
    }
}

#[test]
fn a_commit_is_one_write_and_one_sync_a_partition() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 30);
    append_batches(&mut store, 1, b"first");
    let before = disk.counts();
    append_batches(&mut store, 500, &[b'x'; 100]);
    let after = disk.counts();
    assert_eq!((after.appends - before.appends, after.syncs - before.syncs), (1, 1));
}

#[test]
fn of_64_kib_batches_no_more_than_a_hundredth_is_written_on_top() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 4 << 20);
    let (before, count) = (disk.counts().bytes_appended, 400);
    for _ in 0..count {
        append_batches(&mut store, 1, &[b'x'; 32 << 10]);
    }
    let written = (disk.counts().bytes_appended - before) as f64;
    let produced = all_entries(&store).iter().map(|e| e.payload.len()).sum::<usize>() as f64;
    assert!(written / produced < 1.01, "{written} for {produced}");
}

#[test]
fn a_truncated_suffix_is_replaced() {
    for segment_bytes in [600, 1 << 20] {
        let disk = SimDisk::new(1);
        let mut store = store_with(&disk, segment_bytes);
        append_batches(&mut store, 10, &[b'a'; 50]);
        let kept = all_entries(&store)[..4].to_vec();
        let new = batches((LogIndex(4), Term(TERM)), Offset(8), TERM + 1, 3, b"new");
        let write = Write {
            truncate_from: Some(LogIndex(5)),
            entries: new.clone(),
            ..Write::to(partition(0))
        };
        store.commit(vec![write]).unwrap();
        let expected = [kept, new].concat();
        assert_eq!(all_entries(&store), expected);
        let reader = store.reader(partition(0)).unwrap();
        assert_eq!(reader.term_at(LogIndex(4)), Some(Term(TERM)));
        assert_eq!(reader.term_at(LogIndex(5)), Some(Term(TERM + 1)));
        assert_eq!(reader.end_offset(Term(TERM)), Some((Term(TERM), Offset(8))));
        assert_eq!(reader.end_offset(Term(TERM + 1)), Some((Term(TERM + 1), Offset(14))));
        assert_eq!(reader.end_offset(Term(TERM + 2)), None);
        drop(store);
        disk.crash();
        assert_eq!(all_entries(&open(&disk).0), expected);
    }
}

#[test]
fn a_moved_log_start_lets_whole_segments_go_for_ever() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1000);
    append_batches(&mut store, 30, &[b'a'; 100]);
    let reader = store.reader(partition(0)).unwrap();
    let segments = reader.segments();
    let start = reader.start_for(segments[2].base_offset.plus(1), LogIndex(30)).unwrap();
    assert_eq!(start.index, segments[2].base_index.prev());
    store.commit(vec![Write { start: Some(start), ..Write::to(partition(0)) }]).unwrap();
    assert_eq!(reader.segments(), segments[2..]);
    assert_eq!(files(&disk, ".log").len(), segments.len() - 2);
    assert_eq!(reader.term_at(start.index), Some(start.term));
    let last = segments[1].base_offset;
    assert!(matches!(reader.read(last, 1, Offset(60)), Err(Error::OutOfRange { .. })));
    let compacted = reader.entries(segments[1].base_index, segments[2].base_index, 1);
    assert!(matches!(compacted, Err(Error::Compacted { .. })));
    let epochs = reader.epochs();
    assert_eq!((epochs.len(), epochs[0].offset), (1, start.offset));
    drop(store);
    disk.crash();
    let (store, recovered) = open(&disk);
    let reader = store.reader(partition(0)).unwrap();
    assert_eq!((reader.start(), reader.segments()), (start, segments[2..].to_vec()));
    assert_eq!((recovered[0].start, &recovered[0].epochs), (start, &epochs));
}

#[test]
fn a_reset_log_begins_where_the_snapshot_ends_also_inside_a_batch() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1000);
    append_batches(&mut store, 30, &[b'a'; 100]);
    let start = LogStart { index: LogIndex(100), term: Term(TERM + 4), offset: Offset(201) };
    let write = Write {
        reset: Some(start),
        producer_snapshot: Some((LogIndex(100), Bytes::from_static(b"producers"))),
        ..Write::to(partition(0))
    };
    store.commit(vec![write]).unwrap();
    let reader = store.reader(partition(0)).unwrap();
    assert_eq!((reader.last(), reader.next_offset()), ((start.index, start.term), start.offset));
    assert_eq!(reader.end_offset(Term(TERM + 4)), Some((Term(TERM + 4), Offset(201))));
    // The batch that holds offset 201 begins at 200.
    append(&mut store, vec![batch_entry(101, TERM + 5, 200, 5, b"v")]);
    drop(store);
    disk.crash();
    let (store, recovered) = open(&disk);
    assert_eq!((recovered[0].start, recovered[0].next_offset), (start, Offset(205)));
    let snapshot = recovered[0].producer_snapshot.clone();
    assert_eq!(snapshot, Some((LogIndex(100), Bytes::from_static(b"producers"))));
    let reader = store.reader(partition(0)).unwrap();
    assert_eq!(reader.epochs()[1].offset, Offset(201));
    assert_eq!(reader.read(Offset(201), 1, Offset(205)).unwrap().len(), 1);
    let at_start = reader.offset_for_timestamp(0, Offset(205)).unwrap().unwrap();
    assert_eq!(at_start.offset, Offset(201));
}

#[test]
fn state_and_checkpoint_come_back() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    append_batches(&mut store, 5, b"v");
    let voted = ReplicaState { vote: Some(ReplicaId(3)), term: Term(TERM + 9), ..state() };
    let hw = HighWatermark { index: LogIndex(3), offset: Offset(6) };
    let write =
        Write { state: Some(voted.clone()), checkpoint: Some(hw), ..Write::to(partition(0)) };
    store.commit(vec![write]).unwrap();
    drop(store);
    disk.crash();
    let (store, recovered) = open(&disk);
    assert_eq!((&recovered[0].state, recovered[0].hw), (&voted, hw));
    assert_eq!(recovered[0].tail.iter().map(|m| m.index.0).collect::<Vec<_>>(), [4, 5]);
    store.close().unwrap();
    disk.crash();
    assert_eq!(open(&disk).1[0].hw, hw);
}

#[test]
fn a_removed_partition_is_gone_and_its_readers_are_told() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    append_batches(&mut store, 5, b"v");
    let reader = store.reader(partition(0)).unwrap();
    store.remove(partition(0)).unwrap();
    assert!(matches!(reader.read(Offset(0), 1, Offset(9)), Err(Error::Removed(_))));
    assert!(matches!(store.reader(partition(0)), Err(Error::UnknownPartition(_))));
    drop(store);
    disk.crash();
    let (mut store, recovered) = open(&disk);
    assert!(recovered.is_empty());
    store.create(partition(0), "orders", state(), Config::default()).unwrap();
    append_batches(&mut store, 1, b"v");
}

#[test]
fn a_directory_is_one_nodes_one_clusters_and_one_processs() {
    let disk = SimDisk::new(1);
    let (mut store, _) = open(&disk);
    let open_as = |node| {
        let disk = Arc::new(disk.clone());
        Store::open(disk, Path::new("/data"), NodeId::new(node).unwrap(), [0; 16], options())
    };
    let locked = open_as(1).unwrap_err().to_string();
    assert!(locked.contains("in use by node 1, process"), "{locked}");
    store.set_cluster_id("one").unwrap();
    store.set_cluster_id("one").unwrap();
    let other = store.set_cluster_id("two").unwrap_err().to_string();
    assert!(other.contains("\"one\"") && other.contains("\"two\""), "{other}");
    drop(store);
    let other = open_as(2).unwrap_err().to_string();
    assert!(other.contains("belongs to node 1; this is node 2"), "{other}");
    let (store, _) = open_as(1).unwrap();
    assert_eq!(store.identity().cluster_id.as_deref(), Some("one"));
    assert_eq!(store.identity().disk_uuid, [7; 16]);
}
