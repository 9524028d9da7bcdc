//! A suffix read as a log is read.

use super::home::{epoch, fork_at_end, ledger, payloads, store_of, tail};
use super::*;
use crate::log::disk::Disk;
use crate::log::{Ledger, LogStart, Reader, Suffix};

/// A suffix of 240 entries, of two terms, and what was cut off.
fn cut_off(disk: &SimDisk, segment_bytes: u32) -> (Suffix, Vec<Entry>) {
    let shared = tail(&[], &[0; 7], 0);
    let beyond = tail(&shared, &[[0; 120], [1; 120]].concat(), 1);
    let ours = [shared.clone(), beyond.clone()].concat();
    let mut store = store_of(disk, segment_bytes, &ours, 10);
    let peer = store_of(&SimDisk::new(2), segment_bytes, &shared, 7);
    let fork = fork_at_end(&peer, 2);
    store.seal(partition(0), epoch(2)).unwrap();
    (store.cut_at(partition(0), &fork).unwrap().suffix.unwrap(), beyond)
}

#[test]
fn a_suffix_is_read_from_any_offset_and_by_time_as_the_log_was() {
    for segment_bytes in [1000, 4000, 1 << 20] {
        let disk = SimDisk::new(1);
        let (suffix, beyond) = cut_off(&disk, segment_bytes);
        let reader = Ledger::reader(std::slice::from_ref(&suffix)).unwrap();
        let (first, end) = (beyond[0].base_offset, beyond[239].next_offset());
        assert_eq!((reader.start().offset, reader.next_offset()), (first, end));
        let batches: Vec<&Entry> = beyond.iter().filter(|e| e.kind == Kind::Batch).collect();
        for from in first.0..end.0 {
            let found = reader.read(Offset(from), 300, end).unwrap();
            let at = batches.iter().position(|e| e.next_offset() > Offset(from)).unwrap();
            let expected: Vec<Bytes> =
                batches[at..].iter().take(found.len()).map(|e| e.payload.clone()).collect();
            assert!(!found.is_empty() && found == expected, "from {from} of {segment_bytes}");
        }
        assert!(reader.read(first.plus(-1), 300, end).is_err());
        let latest = batch::check(&batches[9].payload).unwrap().max_timestamp;
        let by_time = reader.offset_for_timestamp(latest, end).unwrap().unwrap();
        assert!(by_time.timestamp >= latest && by_time.offset >= first);
        assert_eq!(reader.offset_for_timestamp(i64::MAX, end).unwrap(), None);
        let (_, ends) = reader.end_offset(suffix.manifest.content.epochs[0].term).unwrap();
        assert_eq!(ends, beyond[120].base_offset, "where its first term ends");
        assert_eq!(reader.last().0, LogIndex(247));
    }
}

#[test]
fn a_suffix_that_was_removed_damaged_or_cut_short_is_no_log() {
    let disk = SimDisk::new(1);
    let (suffix, _) = cut_off(&disk, 4000);
    assert!(suffix.is_there().unwrap());
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let find = || Ledger::of_partition(&on, Path::new("/data"), partition(0)).unwrap();
    assert_eq!(find(), std::slice::from_ref(&suffix));
    let names = disk.list(&suffix.dir).unwrap();
    let last = suffix.dir.join(names.iter().rfind(|n| n.ends_with(".log")).unwrap());
    disk.remove_file(&last).unwrap();
    let short = Ledger::reader(std::slice::from_ref(&suffix)).unwrap_err().to_string();
    assert!(short.contains("the segments end at"), "{short}");
    disk.remove_dir_all(&suffix.dir).unwrap();
    assert!(!suffix.is_there().unwrap());
    assert!(Ledger::reader(std::slice::from_ref(&suffix)).is_err());
    assert_eq!(find(), []);
    assert_eq!(payloads_of_all(&disk), 0);
}

fn payloads_of_all(disk: &SimDisk) -> usize {
    ledger(disk).iter().map(|suffix| payloads(suffix).len()).sum()
}

#[test]
fn a_log_of_nothing_begins_and_ends_where_it_is_said() {
    let start = LogStart { index: LogIndex(4), term: Term(1 << 17), offset: Offset(9) };
    let disk = Arc::new(SimDisk::new(1));
    let reader = Reader::of_nothing(partition(0), start, disk);
    assert_eq!((reader.start(), reader.next_offset()), (start, Offset(9)));
    assert_eq!(reader.read(Offset(9), 100, Offset(9)).unwrap(), Vec::<Bytes>::new());
    assert_eq!(reader.offset_for_timestamp(0, Offset(9)).unwrap(), None);
}

#[test]
fn a_log_that_was_cut_twice_is_read_as_one() {
    let ours = tail(&[], &[0; 40], 1);
    let disk = SimDisk::new(1);
    let mut store = store_of(&disk, 1000, &ours, 10);
    for (n, end) in [(2, 20), (3, 7)] {
        let fork = fork_at_end(&store_of(&SimDisk::new(n), 1000, &ours[..end], 7), n as u32);
        store.seal(partition(0), epoch(n as u32)).unwrap();
        store.cut_at(partition(0), &fork).unwrap();
    }
    let mut parts = ledger(&disk);
    parts.sort_by_key(|part| part.manifest.first_index);
    let reader = Ledger::reader(&parts).unwrap();
    let end = reader.next_offset();
    assert_eq!((reader.start().offset, end), (ours[7].base_offset, ours[39].next_offset()));
    let mut from = reader.start().offset;
    for e in ours[7..].iter().filter(|e| e.kind == Kind::Batch) {
        assert_eq!(reader.read(from, 1, end).unwrap(), std::slice::from_ref(&e.payload));
        from = e.next_offset();
    }
    parts.reverse();
    let refused = Ledger::reader(&parts).unwrap_err().to_string();
    assert!(refused.contains("what is before it ends at"), "{refused}");
}
