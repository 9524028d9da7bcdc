//! A power cut at every change of a home move: afterwards every entry is in the log or in the ledger,
//! no promise has been taken back, and doing it again comes to the same end.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::home::{begun, epoch, fork_at_end, ledger, payloads, store_of, tail};
use super::*;
use crate::log::Fork;
use crate::log::disk::Disk;

const SEGMENT_BYTES: u32 = 700;

struct Logs {
    shared: Vec<Entry>,
    ours: Vec<Entry>,
    theirs: Vec<Entry>,
    fork: Fork,
}

fn logs() -> Logs {
    let shared = tail(&[], &[0; 7], 0);
    let ours = [shared.clone(), tail(&shared, &[0, 0, 0, 2, 2, 2, 2, 2, 2], 1)].concat();
    let theirs = [shared.clone(), tail(&shared, &[1; 6], 2)].concat();
    let peer = store_of(&SimDisk::new(1), SEGMENT_BYTES, &theirs, 7);
    Logs { fork: fork_at_end(&peer, 2), shared, ours, theirs }
}

/// How far a move has come when the machine loses power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    Nothing,
    Sealed,
    Cut,
    Extended,
    Begun,
}

/// The move, from wherever it stands; how far it has come by itself.
fn go(store: &mut Store, logs: &Logs, done: &mut Done) -> Result<(), Error> {
    let config = Config { segment_bytes: SEGMENT_BYTES, ..Config::default() };
    store.set_config(partition(0), config)?;
    store.seal(partition(0), epoch(2))?;
    *done = Done::Sealed;
    let cut = store.cut_at(partition(0), &logs.fork)?;
    *done = Done::Cut;
    let rest = &logs.theirs[cut.last.0.0 as usize..];
    for some in rest.chunks(2) {
        store.extend(partition(0), &logs.fork, some)?;
    }
    *done = Done::Extended;
    let (recovered, _) = store.begin_epoch(partition(0), begun(&logs.fork))?;
    assert_eq!((recovered.last.0, recovered.corruption), (LogIndex(13), None));
    *done = Done::Begun;
    Ok(())
}

/// What must hold after any crash of a move that had come as far as `done`.
fn check(disk: &SimDisk, logs: &Logs, recovered: &Recovered, store: &Store, done: Done) {
    let r = recovered;
    assert_eq!(r.corruption, None, "a crash is no corruption");
    let (home, promised) = (r.state.home_epoch, r.state.promised);
    assert!(done < Done::Sealed || promised == epoch(2), "a promise is kept: {promised:?}");
    assert!(done < Done::Begun || home == epoch(2), "a home that has begun stays");
    let log = all_entries(store);
    let found = ledger(disk);
    for suffix in &found {
        assert!(suffix.is_whole, "a start finishes what was begun");
        assert!(suffix.manifest.hw.index == LogIndex(14), "as it was when the cut began");
    }
    let saved: Vec<Bytes> = found.iter().flat_map(payloads).collect();
    let ours = |e: &&Entry| e.kind == Kind::Batch;
    for e in logs.ours.iter().filter(ours) {
        let is_in_log = log.contains(e);
        let is_saved = saved.contains(&e.payload);
        assert!(is_in_log ^ is_saved, "entry {}: {is_in_log} {is_saved}", e.index);
    }
    let is_prefix = |of: &[Entry]| log.len() <= of.len() && log == of[..log.len()];
    if saved.is_empty() {
        assert_eq!(log, logs.ours, "nothing was cut");
    } else {
        assert!(is_prefix(&logs.theirs) && log.len() >= logs.shared.len());
        assert!(r.hw.index <= LogIndex(7), "{:?}", r.hw);
    }
    assert!(r.state.applied <= r.last.0);
    if done >= Done::Extended {
        assert_eq!(log, logs.theirs);
    }
}

/// As a log that never crashed ends.
fn check_end(disk: &SimDisk, logs: &Logs) {
    let (store, recovered) = open(disk);
    check(disk, logs, &recovered[0], &store, Done::Begun);
    assert_eq!(ledger(disk).len(), 1, "one suffix, however often it was begun");
    assert_eq!(recovered[0].state, ReplicaState { promised: epoch(2), ..begun(&logs.fork) });
}

#[test]
fn a_power_cut_at_any_step_of_a_move_loses_no_entry_and_no_promise() {
    let logs = logs();
    let mut reached = std::collections::BTreeMap::new();
    for seed in 0..4 {
        for changes in 0.. {
            let disk = SimDisk::new(seed * 1000 + changes);
            let mut rng = SmallRng::seed_from_u64(seed * 1000 + changes);
            store_of(&disk, SEGMENT_BYTES, &logs.ours, 14).close().unwrap();
            disk.crash();
            let mut done = Done::Nothing;
            let mut store = open(&disk).0;
            disk.crash_after(changes);
            let came = go(&mut store, &logs, &mut done);
            drop(store);
            disk.crash();
            *reached.entry(done).or_insert(0) += 1;
            // The starts that go on with it may lose power, too.
            for _ in 0..rng.gen_range(0..3) {
                disk.crash_after(rng.gen_range(0..20));
                drop(try_open(&disk));
                disk.crash();
            }
            let (mut store, recovered) = open(&disk);
            check(&disk, &logs, &recovered[0], &store, done);
            if recovered[0].state.home_epoch < epoch(2) {
                go(&mut store, &logs, &mut done).unwrap();
            }
            drop(store);
            disk.crash();
            check_end(&disk, &logs);
            if came.is_ok() {
                break;
            }
        }
    }
    assert!(reached.values().all(|times| *times >= 4), "{reached:?}");
    assert!(reached[&Done::Sealed] > 30, "most of a move is the cut: {reached:?}");
}

#[test]
fn a_process_that_is_killed_at_any_step_of_a_move_loses_nothing_either() {
    let logs = logs();
    for changes in 0.. {
        let disk = SimDisk::new(changes);
        let mut store = store_of(&disk, SEGMENT_BYTES, &logs.ours, 14);
        let mut done = Done::Nothing;
        disk.crash_after(changes);
        let came = go(&mut store, &logs, &mut done);
        drop(store);
        disk.kill();
        let (mut store, recovered) = open(&disk);
        check(&disk, &logs, &recovered[0], &store, done);
        if recovered[0].state.home_epoch < epoch(2) {
            go(&mut store, &logs, &mut done).unwrap();
        }
        drop(store);
        disk.crash();
        check_end(&disk, &logs);
        if came.is_ok() {
            break;
        }
    }
}

#[test]
fn a_cut_that_goes_on_after_rot_below_it_waits_until_the_log_is_mended() {
    let logs = logs();
    let mut waited = 0;
    for changes in 0..80 {
        let disk = SimDisk::new(changes);
        let mut store = store_of(&disk, SEGMENT_BYTES, &logs.ours, 14);
        store.seal(partition(0), epoch(2)).unwrap();
        disk.crash_after(changes);
        let came = store.cut_at(partition(0), &logs.fork).is_ok();
        drop(store);
        disk.crash();
        let path = files(&disk, ".log")[0].clone();
        let index = path.with_extension("index");
        if disk.exists(&index).unwrap() {
            disk.remove_file(&index).unwrap();
            disk.sync_dir(path.parent().unwrap()).unwrap();
        }
        disk.flip(&path, 56 + 3, 1);
        let had_any = !ledger(&disk).is_empty();
        let unfinished = ledger(&disk).iter().any(|suffix| !suffix.is_whole);
        let (mut store, recovered) = open(&disk);
        assert!(recovered[0].corruption.is_some());
        assert!(store.seal(partition(0), epoch(2)).unwrap().damaged);
        assert_eq!(ledger(&disk).iter().any(|suffix| !suffix.is_whole), unfinished);
        if changes % 2 == 1 {
            // Given up: what nobody else has is kept.
            store.remove(partition(0)).unwrap();
            let suffixes = ledger(&disk);
            assert!(suffixes.iter().all(|suffix| suffix.is_whole && suffix.verify().is_ok()));
            assert_eq!(suffixes.is_empty(), !had_any);
            continue;
        }
        drop(store);
        disk.kill();
        // As a mend would leave it.
        disk.flip(&path, 56 + 3, 1);
        let (mut store, recovered) = open(&disk);
        check(&disk, &logs, &recovered[0], &store, Done::Sealed);
        let mut done = Done::Nothing;
        go(&mut store, &logs, &mut done).unwrap();
        waited += u32::from(unfinished);
        if came {
            break;
        }
    }
    assert!(waited > 5, "{waited}");
}
