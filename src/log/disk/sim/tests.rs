//! The simulator's disk is as unkind as it says.

use super::*;

fn file_with(disk: &SimDisk, synced: &[u8], unsynced: &[u8]) -> PathBuf {
    let path = PathBuf::from("/d/f");
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let file = disk.create(&path).unwrap();
    file.append(&mut [IoSlice::new(synced)]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.append(&mut [IoSlice::new(unsynced)]).unwrap();
    path
}

#[test]
fn a_crash_spares_what_was_synced_and_tears_the_rest_in_every_way() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let path = file_with(&disk, &[1; 700], &[2; 2000]);
        disk.crash();
        let left = disk.content(&path);
        assert_eq!(left[..700], [1; 700]);
        let holes = left[700..].contains(&0);
        seen.insert((left.len() == 700, left.len() == 2700, holes));
    }
    for way in [(true, false, false), (false, true, false), (false, true, true)] {
        assert!(seen.contains(&way), "{way:?} in {seen:?}");
    }
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_with_all_its_content() {
    let lost = (0..50).filter(|seed| {
        let disk = SimDisk::new(*seed);
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.sync_data().unwrap();
        disk.crash();
        !disk.exists(Path::new("/d/f")).unwrap()
    });
    assert!((1..50).contains(&lost.count()));
}

#[test]
fn a_new_directory_may_be_lost_with_all_that_is_in_it_until_the_one_above_is_synced() {
    let left = |seed, above: Option<&str>| {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/a/b")).unwrap();
        disk.create(Path::new("/a/b/f")).unwrap();
        for dir in [Some("/a/b"), above, Some("/")].into_iter().flatten() {
            disk.sync_dir(Path::new(dir)).unwrap();
        }
        disk.crash();
        assert!(disk.exists(Path::new("/a")).unwrap());
        let found = disk.exists(Path::new("/a/b/f")).unwrap();
        assert_eq!(found, disk.exists(Path::new("/a/b")).unwrap());
        found
    };
    assert!((1..50).contains(&(0..50).filter(|seed| left(*seed, None)).count()));
    assert!((0..50).all(|seed| left(seed, Some("/a"))));
}

#[test]
fn a_failed_sync_is_forgotten_by_the_next_and_seen_after_eviction() {
    let disk = SimDisk::new(1);
    let path = file_with(&disk, b"old", b"new");
    let file = disk.open(&path).unwrap();
    disk.fail_sync("/d/f");
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.content(&path), b"oldnew");
    file.evict().unwrap();
    assert_eq!(disk.content(&path), b"old");
}

#[test]
fn the_same_seed_is_the_same_disk() {
    let left = |seed| {
        let disk = SimDisk::new(seed);
        let path = file_with(&disk, &[1; 700], &[2; 5000]);
        disk.crash();
        disk.content(&path)
    };
    assert_eq!(left(3), left(3));
}
