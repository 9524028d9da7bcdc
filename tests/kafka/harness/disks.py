"""Disks in memory that lose what was not synced: `tests/faultfs`, one process for all disks of a cluster."""

import subprocess
from pathlib import Path

from .clients import CLIENTS

BIN = CLIENTS / "faultfs/faultfs"

# What a slow disk takes: long enough that a power cut meets syncs under way, and what was acknowledged before them.
SYNC_MS = 10


class Disks:
    """A disk mounted at each of the directories, by the numbers of their nodes. Gone when this process is."""

    def __init__(self, directories):
        self._disks = {number: at for at, number in enumerate(directories, 1)}
        for directory in directories.values():
            Path(directory).mkdir(parents=True)
        self._faultfs = subprocess.Popen(
            [BIN, str(SYNC_MS), *directories.values()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        heard = self._heard()
        assert heard == "ready", f"no disks to test on: {heard}"

    def cut(self, number, seed):
        """The power goes; how many bytes and names are lost. The seed says which, 0 all that were not synced."""
        lost, names = self._order(number, f"cut {seed}").split()
        return int(lost), int(names)

    def power_on(self, number):
        self._order(number, "on")

    def fail_syncs(self, number):
        self._order(number, "fail-syncs")

    def mend_syncs(self, number):
        self._order(number, "mend-syncs")

    def failed_syncs(self, number):
        return int(self._order(number, "failed-syncs"))

    def leave(self, number, room):
        """So many bytes are left of the disk; `None`: as many as at first."""
        self._order(number, "leave-all" if room is None else f"leave {room}")

    def close(self):
        self._faultfs.stdin.close()
        self._faultfs.wait(30)

    def _order(self, number, command):
        self._faultfs.stdin.write(f"{self._disks[number]} {command}\n")
        self._faultfs.stdin.flush()
        answer = self._heard()
        assert answer.startswith("ok"), f"{command}: {answer or 'faultfs has ended'}"
        return answer.removeprefix("ok").strip()

    def _heard(self):
        return self._faultfs.stdout.readline().strip()
