//! On the machine's own disk: readers beside the writer in threads, many partitions at once, and the
//! dump beside a running node.

use std::sync::atomic::{AtomicBool, AtomicI64};

use super::*;
use crate::log::disk::OsDisk;
use crate::log::{Error, HighWatermark, dump};

fn open_in(dir: &Path) -> (Store, Vec<Recovered>) {
    Store::open(Arc::new(OsDisk), dir, node(), [7; 16], options()).unwrap()
}

#[test]
fn readers_beside_a_writer_that_truncates_see_whole_entries_only() {
    let dir = TempDir::new();
    let (mut store, _) = open_in(dir.path());
    let config = Config { segment_bytes: 20_000, ..Config::default() };
    store.create(partition(0), "orders", state(), config).unwrap();
    let reader = store.reader(partition(0)).unwrap();
    let (stop, hw) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        let check = || {
            let mut read = 0;
            while !stop.load(Ordering::Acquire) || read == 0 {
                let limit = hw.load(Ordering::Acquire);
                let from = (limit - 40).max(0);
                for batch in reader.read(Offset(from), 3000, Offset(limit)).unwrap() {
                    // The value is the index of its entry: below HW only one can be there.
                    let header = batch::check(&batch).expect("a whole batch");
                    let expected =
                        batch_with(header.base_offset.0, &[header.base_offset.0; 1], b"");
                    assert_eq!(batch[..8], expected[..8]);
                    read += 1;
                }
                // Above HW entries come and go, but each is whole and they are in order.
                let last = reader.last().0;
                let from = LogIndex(last.0.saturating_sub(20)).next();
                match reader.entries(from, last.next(), 1 << 20) {
                    Ok(entries) => {
                        for (n, e) in entries.iter().enumerate() {
                            assert_eq!(e.index.0, from.0 + n as u64);
                            let header = batch::check(&e.payload).expect("a whole batch");
                            assert_eq!(header.base_offset, e.base_offset);
                        }
                    }
                    Err(Error::Unavailable { .. } | Error::Compacted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            read
        };
        let threads = [scope.spawn(check), scope.spawn(check), scope.spawn(check)];
        let mut term = TERM;
        for round in 0..150u64 {
            let reader = store.reader(partition(0)).unwrap();
            let mut write = Write { sync: round % 10 == 0, ..Write::to(partition(0)) };
            let (mut last, mut next) = (reader.last(), reader.next_offset());
            if round % 7 == 6 {
                let from = LogIndex(last.0.0 - 3);
                term += 1;
                write.truncate_from = Some(from);
                last = (from.prev(), reader.term_at(from.prev()).unwrap());
                next = Offset(2 * from.prev().0 as i64);
            }
            write.entries = batches(last, next, term, 5 + round % 3, &[b'v'; 300]);
            store.commit(vec![write]).unwrap();
            // What is never truncated: all but the last four.
            let safe = reader.last().0.0 - 4;
            hw.store(2 * safe as i64, Ordering::Release);
        }
        stop.store(true, Ordering::Release);
        for thread in threads {
            assert!(thread.join().unwrap() > 0);
        }
    });
    let before = all_entries(&store);
    drop(store);
    assert_eq!(all_entries(&open_in(dir.path()).0), before);
}

#[test]
fn many_partitions_commit_together_and_come_back_together() {
    let dir = TempDir::new();
    let (mut store, _) = open_in(dir.path());
    for n in 0..40 {
        store.create(partition(n), "many", state(), Config::default()).unwrap();
    }
    for round in 0..5 {
        let write = |n: i32| {
            let last = LogIndex(round * (n as u64 % 3 + 1));
            let next = Offset(2 * last.0 as i64);
            let entries = batches((last, Term(TERM)), next, TERM, n as u64 % 3 + 1, b"v");
            Write { entries, ..Write::to(partition(n)) }
        };
        let committed = store.commit((0..40).map(write).collect()).unwrap();
        assert_eq!((committed.files_synced, committed.refused.len()), (40, 0));
    }
    drop(store);
    let (_, recovered) = open_in(dir.path());
    let found: Vec<_> = recovered.iter().map(|r| (r.partition.partition, r.last.0.0)).collect();
    let expected: Vec<_> = (0..40).map(|n| (n, 5 * (n as u64 % 3 + 1))).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_dump_prints_one_line_a_batch_up_to_the_high_watermark_beside_a_running_node() {
    let dir = TempDir::new();
    let (mut store, _) = open_in(dir.path());
    let config = Config { segment_bytes: 300, ..Config::default() };
    store.create(partition(0), "orders", state(), config).unwrap();
    append(&mut store, vec![entry(1, TERM, Kind::Empty, 0, b"")]);
    append_batches(&mut store, 4, b"value");
    let hw = HighWatermark { index: LogIndex(4), offset: Offset(6) };
    let write = Write { checkpoint: Some(hw), ..Write::to(partition(0)) };
    store.commit(vec![write]).unwrap();
    let dumped = |topic: &str, partition| -> Result<Vec<String>, Error> {
        dump(Arc::new(OsDisk), dir.path(), topic, partition)?
            .map(|line| line.map(|l| l.to_string()))
            .collect()
    };
    let lines = dumped("orders", 0).unwrap();
    assert_eq!(lines.join("\n"), include_str!("dump.golden").trim_end());
    assert_eq!(dumped(&partition(0).topic.to_string(), 0).unwrap(), lines);
    let unknown = dumped("words", 0).unwrap_err().to_string();
    assert!(unknown.contains("no topic \"words-0\"") && unknown.contains("orders ("), "{unknown}");
    assert!(dumped("orders", 1).is_err());
    let nowhere = dump(Arc::new(OsDisk), &dir.path().join("nowhere"), "orders", 0);
    assert!(nowhere.is_err());
}
