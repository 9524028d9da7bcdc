"""The faulty disks, through the kernel: what their own tests say of each operation is what a process sees.

What is lost and what is not, case by case, is in `tests/faultfs`, whose tests need no kernel.
"""

import errno
import os
import shutil

import pytest

from harness.disks import Disks


@pytest.fixture
def disk(tmp_path):
    """One disk: its directory, and what can be done to it."""
    disks = Disks({1: tmp_path / "disk"})
    yield tmp_path / "disk", disks
    disks.close()
    assert not os.path.ismount(tmp_path / "disk")


def synced(path, content=None):
    """Syncs a directory, or writes a file and syncs it."""
    file = os.open(path, os.O_RDONLY if content is None else os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if content is not None:
            assert os.write(file, content) == len(content)
        os.fsync(file)
    finally:
        os.close(file)


def cut(disks):
    lost = disks.cut(1, 0)
    disks.power_on(1)
    return lost


def fails_with(code, call, *args):
    with pytest.raises(OSError) as failed:
        call(*args)
    assert failed.value.errno == code


def test_a_power_cut_takes_what_was_not_synced_out_of_every_cache(disk):
    path, disks = disk
    synced(path / "kept", b"old")
    synced(path)
    with open(path / "kept", "ab") as file:
        file.write(b"new")
    synced(path / "no-name", b"content")
    assert (path / "kept").read_bytes() == b"oldnew"
    assert sorted(os.listdir(path)) == ["kept", "no-name"]
    assert cut(disks) == (3, 1)
    assert (path / "kept").read_bytes() == b"old"
    assert os.stat(path / "kept").st_size == 3
    assert os.listdir(path) == ["kept"]
    assert not (path / "no-name").exists()
    synced(path / "kept", b"more")
    assert cut(disks) == (0, 0)
    assert (path / "kept").read_bytes() == b"oldmore", "appended where the file ends now"


def test_names_come_back_and_renames_are_whole(disk):
    path, disks = disk
    (path / "d").mkdir()
    synced(path / "d/a", b"a")
    synced(path / "d")
    synced(path)
    os.rename(path / "d/a", path / "b")
    (path / "e").mkdir()
    assert sorted(os.listdir(path)) == ["b", "d", "e"]
    cut(disks)
    assert (os.listdir(path), os.listdir(path / "d")) == (["d"], ["a"])
    os.rename(path / "d/a", path / "b")
    synced(path)
    cut(disks)
    assert (sorted(os.listdir(path)), os.listdir(path / "d")) == (["b", "d"], [])
    assert (path / "b").read_bytes() == b"a"


def test_a_large_directory_is_removed_whole(disk):
    path, _ = disk
    (path / "d").mkdir()
    for n in range(500):
        (path / f"d/{n:060}").touch()
    assert len(os.listdir(path / "d")) == 500
    shutil.rmtree(path / "d")
    assert os.listdir(path) == []


def test_syncs_fail_and_the_disk_runs_full(disk):
    path, disks = disk
    synced(path / "f", b"old")
    synced(path)
    disks.fail_syncs(1)
    fails_with(errno.EIO, synced, path / "f", b"lost")
    assert disks.failed_syncs(1) == 1
    disks.mend_syncs(1)
    synced(path / "f")
    assert (path / "f").read_bytes() == b"oldlost", "the next sync succeeds, and writes nothing of it"
    cut(disks)
    assert (path / "f").read_bytes() == b"old"
    disks.leave(1, 8192)
    assert os.statvfs(path).f_bavail * os.statvfs(path).f_frsize == 8192
    fails_with(errno.ENOSPC, synced, path / "f", bytes(9000))
    disks.leave(1, None)
    synced(path / "f", bytes(9000))


def test_without_power_nothing_answers(disk):
    path, disks = disk
    with open(path / "f", "wb", buffering=0) as file:
        disks.cut(1, 0)
        fails_with(errno.EIO, file.write, b"x")
        fails_with(errno.EIO, os.fsync, file.fileno())
        fails_with(errno.EIO, os.listdir, path)
        disks.power_on(1)
    assert os.listdir(path) == []
