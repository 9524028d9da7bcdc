//! What a power cut, a failed sync and a full disk take, and what they leave, operation by operation.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use crate::names::Ino;
use crate::volume::{Error, Kind, Lost, ROOT, Volume};

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// A file in the root whose content and name are durable.
fn durable_file(volume: &mut Volume, called: &str, content: &[u8]) -> Ino {
    let ino = volume.create(ROOT, name(called)).unwrap();
    volume.write(ino, None, content).unwrap();
    sync(volume, ino);
    sync(volume, ROOT);
    ino
}

fn durable_directory(volume: &mut Volume, called: &str) -> Ino {
    let ino = volume.make_directory(ROOT, name(called)).unwrap();
    sync(volume, ROOT);
    ino
}

fn sync(volume: &mut Volume, ino: Ino) {
    volume.sync(ino, volume.moment()).unwrap();
}

fn content(volume: &Volume, dir: Ino, called: &str) -> Option<Vec<u8>> {
    let ino = volume.lookup(dir, name(called)).ok()?;
    Some(volume.read(ino, 0, usize::MAX).unwrap().to_vec())
}

/// Nothing survives that was not synced.
fn cut(volume: &mut Volume) -> Lost {
    cut_by(volume, 0)
}

fn cut_by(volume: &mut Volume, seed: u64) -> Lost {
    let lost = volume.cut(seed);
    volume.power_on();
    lost
}

#[test]
fn a_synced_write_stays_and_a_later_one_goes() {
    let mut volume = Volume::default();
    let ino = durable_file(&mut volume, "f", b"old");
    volume.write(ino, None, b"new").unwrap();
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"oldnew");
    assert_eq!(cut(&mut volume), Lost { bytes: 3, names: 0 });
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"old");
}

#[test]
fn an_overwrite_and_a_truncation_that_were_not_synced_are_undone() {
    let mut volume = Volume::default();
    let ino = durable_file(&mut volume, "f", b"abcdef");
    volume.resize(ino, 4).unwrap();
    volume.write(ino, Some(1), b"XY").unwrap();
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"aXYd");
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"abcdef");

    volume.resize(ino, 4).unwrap();
    volume.write(ino, Some(1), b"XY").unwrap();
    sync(&mut volume, ino);
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"aXYd");
}

#[test]
fn a_new_file_is_gone_with_its_synced_content_until_its_directory_is_synced() {
    let mut volume = Volume::default();
    let ino = volume.create(ROOT, name("f")).unwrap();
    volume.write(ino, None, b"x").unwrap();
    sync(&mut volume, ino);
    assert_eq!(cut(&mut volume), Lost { bytes: 0, names: 1 });
    assert_eq!(content(&volume, ROOT, "f"), None);

    let ino = volume.create(ROOT, name("f")).unwrap();
    volume.write(ino, None, b"x").unwrap();
    sync(&mut volume, ROOT);
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"", "the name, and none of the content");
}

#[test]
fn a_new_directory_takes_all_that_is_in_it_along() {
    let mut volume = Volume::default();
    let dir = volume.make_directory(ROOT, name("d")).unwrap();
    let ino = volume.create(dir, name("f")).unwrap();
    sync(&mut volume, ino);
    sync(&mut volume, dir);
    cut(&mut volume);
    assert_eq!(volume.lookup(ROOT, name("d")), Err(Error::NotFound));
}

#[test]
fn a_removal_that_was_not_synced_is_undone_with_the_content_back() {
    let mut volume = Volume::default();
    durable_file(&mut volume, "f", b"x");
    volume.remove(ROOT, name("f")).unwrap();
    assert_eq!(content(&volume, ROOT, "f"), None);
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"x");
    volume.remove(ROOT, name("f")).unwrap();
    sync(&mut volume, ROOT);
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "f"), None);
}

#[test]
fn a_directory_is_removed_empty_and_a_removal_that_was_not_synced_is_undone() {
    let mut volume = Volume::default();
    let dir = durable_directory(&mut volume, "d");
    volume.create(dir, name("f")).unwrap();
    assert_eq!(volume.remove_directory(ROOT, name("d")), Err(Error::NotEmpty));
    assert_eq!(volume.remove(ROOT, name("d")), Err(Error::IsADirectory));
    volume.remove(dir, name("f")).unwrap();
    volume.remove_directory(ROOT, name("d")).unwrap();
    cut(&mut volume);
    assert_eq!(volume.lookup(ROOT, name("d")), Ok(dir));
}

#[test]
fn a_rename_is_undone_or_whole() {
    let mut volume = Volume::default();
    durable_file(&mut volume, "a", b"new");
    durable_file(&mut volume, "b", b"old");
    volume.rename((ROOT, name("a")), (ROOT, name("b"))).unwrap();
    assert_eq!(
        (content(&volume, ROOT, "a"), content(&volume, ROOT, "b").unwrap()),
        (None, b"new".to_vec())
    );
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "a").unwrap(), b"new");
    assert_eq!(content(&volume, ROOT, "b").unwrap(), b"old");
    volume.rename((ROOT, name("a")), (ROOT, name("b"))).unwrap();
    sync(&mut volume, ROOT);
    cut(&mut volume);
    assert_eq!(
        (content(&volume, ROOT, "a"), content(&volume, ROOT, "b").unwrap()),
        (None, b"new".to_vec())
    );
}

#[test]
fn a_rename_between_directories_is_durable_with_either_of_them() {
    for synced in [0, 1] {
        let mut volume = Volume::default();
        let dirs = ["from", "to"].map(|dir| durable_directory(&mut volume, dir));
        // The file has been in the other directory: the order of all three changes counts.
        let ino = volume.create(dirs[1], name("f")).unwrap();
        volume.rename((dirs[1], name("f")), (dirs[0], name("f"))).unwrap();
        volume.rename((dirs[0], name("f")), (dirs[1], name("g"))).unwrap();
        sync(&mut volume, dirs[synced]);
        cut(&mut volume);
        assert_eq!(volume.list(dirs[0]).unwrap(), []);
        assert_eq!(volume.list(dirs[1]).unwrap(), [("g".into(), ino)]);
    }
}

#[test]
fn a_directory_sync_leaves_the_names_of_others_at_stake() {
    let mut volume = Volume::default();
    let dir = durable_directory(&mut volume, "d");
    volume.create(dir, name("f")).unwrap();
    sync(&mut volume, ROOT);
    cut(&mut volume);
    assert_eq!(volume.list(dir).unwrap(), []);
}

#[test]
fn a_sync_covers_what_was_written_before_it_began() {
    let mut volume = Volume::default();
    let ino = durable_file(&mut volume, "f", b"");
    volume.write(ino, None, b"before").unwrap();
    let began = volume.moment();
    volume.write(ino, None, b"after").unwrap();
    volume.sync(ino, began).unwrap();
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"before");
}

#[test]
fn a_failed_sync_is_forgotten_by_the_next_and_seen_after_a_power_cut() {
    let mut volume = Volume::default();
    let ino = durable_file(&mut volume, "f", b"old");
    volume.write(ino, None, b"lost").unwrap();
    volume.create(ROOT, name("g")).unwrap();
    volume.fail_syncs(true);
    assert_eq!(volume.sync(ino, volume.moment()), Err(Error::Io));
    assert_eq!(volume.sync(ROOT, volume.moment()), Err(Error::Io));
    assert_eq!(volume.failed_syncs(), 2);
    volume.fail_syncs(false);
    sync(&mut volume, ino);
    sync(&mut volume, ROOT);
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"oldlost");
    cut(&mut volume);
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"old");
    assert_eq!(content(&volume, ROOT, "g"), None);
}

#[test]
fn without_power_nothing_answers_and_nothing_becomes_durable() {
    let mut volume = Volume::default();
    let ino = durable_file(&mut volume, "f", b"old");
    volume.write(ino, None, b"new").unwrap();
    let began = volume.moment();
    volume.cut(0);
    assert_eq!(volume.sync(ino, began), Err(Error::Io));
    assert_eq!(volume.write(ino, None, b"x"), Err(Error::Io));
    assert_eq!(volume.read(ino, 0, 1), Err(Error::Io));
    assert_eq!(volume.create(ROOT, name("g")), Err(Error::Io));
    assert_eq!(volume.lookup(ROOT, name("f")), Err(Error::Io));
    volume.power_on();
    assert_eq!(content(&volume, ROOT, "f").unwrap(), b"old");
}

#[test]
fn an_open_file_outlives_its_name_until_the_kernel_forgets_it() {
    let mut volume = Volume::default();
    let ino = durable_file(&mut volume, "f", b"x");
    volume.learn(ino);
    volume.remove(ROOT, name("f")).unwrap();
    sync(&mut volume, ROOT);
    assert_eq!(volume.read(ino, 0, 1), Ok(&b"x"[..]));
    volume.unlearn(ino, 1);
    sync(&mut volume, ROOT);
    assert_eq!(volume.kind(ino), Err(Error::NotFound));
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_nothing_else() {
    let mut volume = Volume::default();
    let ino = durable_file(&mut volume, "f", b"12345");
    volume.leave(3);
    assert_eq!(volume.write(ino, None, b"6789"), Err(Error::NoSpace));
    volume.write(ino, Some(0), b"abcd").unwrap();
    volume.write(ino, None, b"678").unwrap();
    assert_eq!((volume.free_bytes(), volume.kind(ino)), (0, Ok(Kind::File { len: 8 })));
    sync(&mut volume, ino);
    volume.leave_all();
    volume.write(ino, None, b"9").unwrap();
}

#[test]
fn a_kind_power_cut_tears_writes_in_every_way_and_spares_what_was_synced() {
    let mut seen = BTreeSet::new();
    for seed in 1..200 {
        let mut volume = Volume::default();
        let ino = durable_file(&mut volume, "f", &[1; 700]);
        volume.write(ino, None, &[2; 2000]).unwrap();
        cut_by(&mut volume, seed);
        let left = content(&volume, ROOT, "f").unwrap();
        assert_eq!(left[..700], [1; 700]);
        seen.insert((left.len() == 700, left.len() == 2700, left[700..].contains(&0)));
    }
    for way in
        [(true, false, false), (false, true, false), (false, true, true), (false, false, false)]
    {
        assert!(seen.contains(&way), "{way:?} in {seen:?}");
    }
}

#[test]
fn a_kind_power_cut_keeps_any_of_the_names_and_a_seed_repeats() {
    let left = |seed| {
        let mut volume = Volume::default();
        for called in ["a", "b", "c"] {
            volume.create(ROOT, name(called)).unwrap();
        }
        cut_by(&mut volume, seed);
        volume
            .list(ROOT)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .collect::<String>()
    };
    let seen: BTreeSet<String> = (1..400).map(left).collect();
    assert_eq!(seen.len(), 8, "every subset: {seen:?}");
    assert_eq!(left(7), left(7));
}
