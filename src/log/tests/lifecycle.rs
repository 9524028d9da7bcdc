//! A crash at every change of making, opening, growing and removing: the directory opens again.

use super::*;
use crate::log::HighWatermark;

/// Changes that any of these make, at most.
const CHANGES: u64 = 60;

/// Runs `act` on a disk that crashes at each of its changes in turn, and `check` after a restart.
fn at_every_change(
    prepare: impl Fn(&SimDisk),
    act: impl Fn(&SimDisk) -> Result<(), Error>,
    check: impl Fn(&SimDisk, bool),
) {
    let mut completed = 0;
    for seed in 0..5 {
        for changes in 0..CHANGES {
            let disk = SimDisk::new(seed * 1000 + changes);
            prepare(&disk);
            disk.crash();
            disk.crash_after(changes);
            let done = act(&disk).is_ok();
            disk.crash();
            check(&disk, done);
            completed += usize::from(done);
        }
    }
    assert!(completed > 0, "{CHANGES} changes are not enough");
}

#[test]
fn a_directory_that_was_being_made_opens() {
    at_every_change(
        |_| {},
        |disk| try_open(disk).map(|_| ()),
        |disk, _| assert!(open(disk).1.is_empty()),
    );
}

#[test]
fn a_data_directory_that_was_opened_survives_a_power_cut_whoever_made_it_and_was_killed() {
    let open = |disk: &SimDisk, uuid| {
        let dir = Path::new("/srv/isobar/data");
        Store::open(Arc::new(disk.clone()), dir, node(), [uuid; 16], options())
    };
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        disk.crash_after(seed % 20);
        let killed = open(&disk, 1).is_err();
        disk.kill();
        let uuid = open(&disk, 2).unwrap().0.identity().disk_uuid;
        disk.crash();
        assert_eq!(open(&disk, 3).unwrap().0.identity().disk_uuid, uuid, "{seed}: {killed}");
    }
}

#[test]
fn a_partition_is_made_whole_or_not_at_all() {
    at_every_change(
        |disk| drop(open(disk)),
        |disk| {
            let mut store = try_open(disk)?.0;
            store.create(partition(0), "orders", state(), Config::default())?;
            store.create(partition(1), "orders", state(), Config::default())
        },
        |disk, done| {
            let (mut store, recovered) = open(disk);
            assert!(!done || recovered.len() == 2);
            for n in 0..2 {
                if !store.contains(partition(n)) {
                    store.create(partition(n), "orders", state(), Config::default()).unwrap();
                }
            }
            append_batches(&mut store, 1, b"v");
        },
    );
}

#[test]
fn a_partition_that_was_being_removed_is_there_whole_or_gone() {
    at_every_change(
        |disk| {
            let mut store = store_with(disk, 500);
            append_batches(&mut store, 10, &[b'a'; 100]);
        },
        |disk| try_open(disk)?.0.remove(partition(0)),
        |disk, done| {
            let (store, recovered) = open(disk);
            assert!(!done || recovered.is_empty());
            if store.contains(partition(0)) {
                assert_eq!(recovered[0].corruption, None);
                assert_eq!(all_entries(&store).len(), 10);
            }
        },
    );
}

#[test]
fn a_journal_that_is_replaced_over_and_over_forgets_nothing() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    store.create(partition(1), &"n".repeat(60_000), state(), Config::default()).unwrap();
    append_batches(&mut store, 3, b"v");
    let journals = |disk: &SimDisk| -> Vec<PathBuf> {
        let is_journal = |p: &PathBuf| p.to_str().unwrap().ends_with(".journal");
        disk.files().into_iter().filter(is_journal).collect()
    };
    let (first, mut term) = (journals(&disk), TERM);
    // Each state of partition 1 is 60 kB: the journal is replaced every 70 commits or so.
    for round in 0..300u64 {
        term += 1;
        let vote = ReplicaState { term: Term(term), ..state() };
        let hw = HighWatermark { index: LogIndex(round % 4), offset: Offset(0) };
        let votes = Write { state: Some(vote), ..Write::to(partition(1)) };
        let checkpoint = Write { checkpoint: Some(hw), ..Write::to(partition(0)) };
        if round % 50 == 49 {
            disk.crash_after(round / 50);
        }
        if store.commit(vec![votes, checkpoint]).is_err() {
            drop(store);
            disk.crash();
            let (opened, recovered) = open(&disk);
            let found = recovered[1].state.term.0;
            assert!(found == term || found == term - 1, "{found} after {term}");
            (store, term) = (opened, found);
        }
        disk.crash_after(u64::MAX);
    }
    assert_ne!(journals(&disk), first, "it was replaced");
    drop(store);
    disk.crash();
    assert_eq!(open(&disk).1[1].state.term, Term(term));
}
