//! Damaged logs that take the entries again from a healthy one (R21).

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::log::disk::Disk;
use crate::log::{HighWatermark, Mend, MendError, Reader, parse_range};

const SEGMENT_BYTES: u32 = 1500;
const CONFIG: Config = Config { segment_bytes: SEGMENT_BYTES, segment_ms: i64::MAX };

type File = (String, usize, u32);

/// A log of several segments, with everything under the durable mark, and what its files hold.
fn whole(disk: &SimDisk) -> Vec<File> {
    let mut store = store_with(disk, SEGMENT_BYTES);
    for n in 0..12 {
        append_batches(&mut store, 3, &[n; 150]);
        let reader = store.reader(partition(0)).unwrap();
        let hw = HighWatermark { index: reader.last().0, offset: reader.next_offset() };
        let state = Some(ReplicaState { applied: hw.index, ..state() });
        let write = Write { checkpoint: Some(hw), state, ..Write::to(partition(0)) };
        store.commit(vec![write]).unwrap();
    }
    store.close().unwrap();
    disk.kill();
    logs(disk)
}

/// Name, size and checksum of every segment.
fn logs(disk: &SimDisk) -> Vec<File> {
    let of = |path: &PathBuf| {
        let content = disk.content(path);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, content.len(), crc32c::crc32c(&content))
    };
    files(disk, ".log").iter().map(of).collect()
}

/// Takes all that is wanted from `peer`, a little at a time.
fn feed(mend: &mut Mend, peer: &Reader) -> Result<(), MendError> {
    let end = peer.last().0.next();
    while let Some(next) = mend.next().filter(|next| *next < end) {
        let range = peer.range(next, end, 700).unwrap();
        mend.take(parse_range(partition(0), &range).unwrap())?;
    }
    Ok(())
}

/// Mends until nothing is damaged; how often, or the error of a disk that fails on the way.
fn heal(store: &mut Store, peer: &Reader) -> Result<u32, MendError> {
    let mut rounds = 0;
    while let Some(mut mend) = store.mend(partition(0), CONFIG)? {
        feed(&mut mend, peer)?;
        mend.settle()?;
        store.adopt(mend)?;
        rounds += 1;
        assert!(rounds < 20, "it comes to an end");
    }
    Ok(rounds)
}

/// Some damage that a start finds. Of the last segment a start checks the payload of the entry at the
/// mark only; what rots before it is found when it is read, or once the segment is closed.
fn damage(disk: &SimDisk, rng: &mut SmallRng) {
    for _ in 0..rng.gen_range(1..=2) {
        let paths = files(disk, ".log");
        let n = rng.gen_range(0..paths.len());
        let path = &paths[n];
        let index = path.with_extension("index");
        if disk.exists(&index).unwrap() {
            disk.remove_file(&index).unwrap();
        }
        let size = disk.content(path).len();
        match if n + 1 == paths.len() { 1 } else { rng.gen_range(0..4) } {
            0 if paths.len() > 2 => disk.remove_file(path).unwrap(),
            1 => {
                let keep = rng.gen_range(0..size);
                let content = disk.content(path)[..keep].to_vec();
                disk.write_durable(path, &content);
            }
            _ => disk.flip(path, rng.gen_range(0..size as u64), 1 << rng.gen_range(0..8)),
        }
    }
    disk.sync_dir(files(disk, ".log")[0].parent().unwrap()).unwrap();
}

#[test]
fn whatever_was_damaged_the_files_are_the_same_again() {
    let peer_disk = SimDisk::new(1);
    let files = whole(&peer_disk);
    let (peer, _) = open(&peer_disk);
    let peer = peer.reader(partition(0)).unwrap();
    let mut mended = 0;
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        whole(&disk);
        damage(&disk, &mut rng);
        let (mut store, recovered) = open(&disk);
        let was_damaged = recovered[0].corruption.is_some();
        assert_eq!(heal(&mut store, &peer).unwrap() > 0, was_damaged, "seed {seed}");
        mended += u32::from(was_damaged);
        assert_eq!(logs(&disk), files, "seed {seed}");
        append_batches(&mut store, 2, b"goes on");
        let entries = all_entries(&store);
        drop(store);
        disk.crash();
        let (store, recovered) = open(&disk);
        let r = &recovered[0];
        assert_eq!((r.corruption, r.last.0), (None, LogIndex(38)), "seed {seed}");
        assert_eq!((r.hw.index, r.state.applied), (LogIndex(36), LogIndex(36)), "seed {seed}");
        assert_eq!(all_entries(&store), entries);
    }
    assert!(mended > 250, "{mended} of 300 were damaged");
}

#[test]
fn a_power_cut_at_any_step_of_a_mend_leaves_damage_that_is_mended_after_it() {
    let peer_disk = SimDisk::new(1);
    let files = whole(&peer_disk);
    let (peer, _) = open(&peer_disk);
    let peer = peer.reader(partition(0)).unwrap();
    let mut cuts = 0;
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        whole(&disk);
        damage(&disk, &mut rng);
        let (mut store, _) = open(&disk);
        disk.crash_after(rng.gen_range(0..40));
        cuts += u32::from(heal(&mut store, &peer).is_err());
        drop(store);
        disk.crash();
        let (mut store, recovered) = open(&disk);
        let r = &recovered[0];
        assert!(r.corruption.is_some() || r.last.0 == LogIndex(36), "seed {seed}: {r:?}");
        heal(&mut store, &peer).unwrap();
        assert_eq!(logs(&disk), files, "seed {seed}");
        assert_eq!(store.reader(partition(0)).unwrap().last().0, LogIndex(36));
    }
    assert!(cuts > 100, "{cuts} of 200 were cut");
}

#[test]
fn a_rotten_segment_of_a_log_in_use_is_made_anew_under_its_readers() {
    let disk = SimDisk::new(1);
    whole(&disk);
    let peer_disk = SimDisk::new(2);
    let files_before = whole(&peer_disk);
    let (peer, _) = open(&peer_disk);
    let peer = peer.reader(partition(0)).unwrap();
    let path = files(&disk, ".log")[3].clone();
    disk.flip(&path, 900, 1);
    let (mut store, recovered) = open(&disk);
    assert_eq!(recovered[0].corruption, None, "its index is whole");
    let reader = store.reader(partition(0)).unwrap();
    let base = reader.segments()[3].base_index;
    assert!(matches!(reader.scrub(base), Err(Error::Corrupt { .. })));
    let mut mend = reader.mend_segment(base).unwrap().unwrap();
    feed(&mut mend, &peer).unwrap();
    assert_eq!(mend.next(), None);
    assert!(store.swap(mend.spare().unwrap()).unwrap());
    assert_eq!(reader.scrub(base).unwrap(), peer.scrub(base).unwrap());
    assert_eq!(all_entries(&store).len(), 36);
    append_batches(&mut store, 1, b"goes on");
    drop(store);
    disk.crash();
    let (_, recovered) = open(&disk);
    assert_eq!(recovered[0].corruption, None);
    assert_eq!(logs(&disk)[..files_before.len() - 1], files_before[..files_before.len() - 1]);
}

#[test]
fn damage_that_the_start_did_not_see_is_found_when_a_log_is_doubted() {
    let peer_disk = SimDisk::new(1);
    let files_before = whole(&peer_disk);
    let (peer, _) = open(&peer_disk);
    let peer = peer.reader(partition(0)).unwrap();
    for n in [2, 11] {
        let disk = SimDisk::new(1);
        whole(&disk);
        disk.flip(&files(&disk, ".log")[n], 300, 1);
        let (mut store, recovered) = open(&disk);
        assert_eq!(recovered[0].corruption, None, "its index is believed, or the payload not read");
        let rotten = LogIndex(n as u64 * 3 + 1);
        let read = store.reader(partition(0)).unwrap().entries(rotten, rotten.next(), 1 << 20);
        assert!(matches!(read, Err(Error::Corrupt { index, .. }) if index == rotten), "{read:?}");
        let (recovered, _) = store.doubt(partition(0), rotten).unwrap();
        assert_eq!(recovered.corruption.unwrap().first, rotten);
        assert_eq!(heal(&mut store, &peer).unwrap(), 1);
        assert_eq!(logs(&disk), files_before);
        assert_eq!(store.doubt(partition(0), rotten).unwrap().0.corruption, None);
    }
}

#[test]
fn what_a_doubted_log_had_synced_is_not_taken_for_torn_after_a_power_cut() {
    let disk = SimDisk::new(1);
    let mut store = store_with(&disk, 1 << 20);
    let last = append_batches(&mut store, 3, &[b'v'; 150]);
    let path = files(&disk, ".log")[0].clone();
    disk.flip(&path, disk.content(&path).len() as u64 - 20, 1);
    let (recovered, _) = store.doubt(partition(0), LogIndex(3)).unwrap();
    assert_eq!(
        recovered.corruption.unwrap().first,
        LogIndex(3),
        "no mark was written, but it was synced"
    );
    drop(store);
    disk.crash();
    let (_, recovered) = open(&disk);
    assert_eq!(recovered[0].corruption.unwrap().first, LogIndex(3), "{last:?}");
}

#[test]
fn a_mark_that_was_written_outlives_a_power_cut() {
    // What a power cut leaves of unsynced bytes is the seed's: one alone may well keep them all.
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let mut store = store_with(&disk, 1 << 20);
        append_batches(&mut store, 3, &[b'v'; 150]);
        let write = Write {
            checkpoint: Some(HighWatermark::default()),
            sync: false,
            ..Write::to(partition(0))
        };
        store.commit(vec![write]).unwrap();
        let path = files(&disk, ".log")[0].clone();
        drop(store);
        disk.crash();
        disk.flip(&path, disk.content(&path).len() as u64 - 20, 1);
        let (_, recovered) = open(&disk);
        let damaged = recovered[0].corruption.map(|damage| damage.first);
        assert_eq!(damaged, Some(LogIndex(3)), "seed {seed}");
    }
}

#[test]
fn entries_that_do_not_continue_the_log_are_refused() {
    let disk = SimDisk::new(1);
    whole(&disk);
    disk.remove_file(&files(&disk, ".log")[2]).unwrap();
    let (store, recovered) = open(&disk);
    let damaged = recovered[0].corruption.unwrap().first;
    let mut mend = store.mend(partition(0), CONFIG).unwrap().unwrap();
    assert_eq!(mend.next(), Some(damaged));
    assert!(mend.wants().last.is_some(), "what follows is whole");
    let (last, offset) = (mend.wants().after, recovered[0].next_offset);
    let beyond = batches((last.0.next(), last.1), offset, TERM, 1, b"gap");
    assert!(matches!(mend.take(beyond), Err(MendError::Discontinuity(_))));
    let elsewhere = batches(last, offset.plus(1), TERM, 1, b"other offset");
    assert!(matches!(mend.take(elsewhere), Err(MendError::Discontinuity(_))));
    let older = batches(last, offset, TERM - 1, 1, b"older term");
    assert!(matches!(mend.take(older), Err(MendError::Discontinuity(_))));
}

#[test]
fn a_promise_that_is_made_while_a_log_is_mended_stays() {
    let peer_disk = SimDisk::new(1);
    whole(&peer_disk);
    let (peer, _) = open(&peer_disk);
    let peer = peer.reader(partition(0)).unwrap();
    let disk = SimDisk::new(1);
    whole(&disk);
    disk.remove_file(&files(&disk, ".log")[2]).unwrap();
    let (mut store, _) = open(&disk);
    let mut mend = store.mend(partition(0), CONFIG).unwrap().unwrap();
    feed(&mut mend, &peer).unwrap();
    let promised = crate::model::HomeEpoch::new(2).unwrap();
    assert!(store.seal(partition(0), promised).unwrap().damaged);
    assert_eq!(store.adopt(mend).unwrap().0.state.promised, promised);
    drop(store);
    disk.crash();
    let (_, recovered) = open(&disk);
    assert_eq!((recovered[0].state.promised, recovered[0].corruption), (promised, None));
}
