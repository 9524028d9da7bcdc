"""Faults by a seed, with the disks' among them: power cuts of one node, of a datacenter, of everything, failing syncs.

Every change that was acknowledged has been synced (`flush = "quorum"`), so however many nodes lose their power at once,
nothing of it may be gone.
"""

from . import wait
from .nemesis import DCS, Nemesis

# A node that a failed sync has not ended by then goes on.
END_SECONDS = 20

# `Options` of `src/log/store.rs`: produce is refused below 256 MiB, appends below 64 MiB.
ROOMS_BYTES = (128 << 20, 32 << 20)


class DiskNemesis(Nemesis):
    def __init__(self, *args):
        super().__init__(*args)
        self.lost_bytes = self.lost_names = self.cuts = self.ended = 0

    def actions(self):
        disks = [self.cut_power, self.cut_power_of_a_dc, self.cut_all_power, self.fail_syncs, self.fill]
        return super().actions() + 2 * disks

    def run(self, seconds):
        """However the dice fall: each of what only this nemesis does once at least, all power at last."""
        for action in (self.fail_syncs, self.cut_power_of_a_dc):
            action()
            self.undo()
        super().run(seconds)
        self.cut_all_power()
        self.undo()

    def assert_tested(self):
        assert self.ended and self.lost_bytes, "no disk has failed, or none has lost anything"

    def account(self):
        lost = f"{self.lost_bytes} bytes and {self.lost_names} names lost in {self.cuts} power cuts"
        return f"{lost}, {self.ended} nodes ended by failed syncs, "

    def cut_power(self):
        alive = self._running()
        if alive:
            self._cut_power([self.random.choice(alive)])

    def cut_power_of_a_dc(self):
        dc = self.random.choice(DCS)
        alive = [n for n in self.cluster.in_dc(dc) if n in self._running()]
        if alive:
            self._cut_power(alive)

    def cut_all_power(self):
        """While all work: what was acknowledged last is what may be lost."""
        self.undo()
        self.cluster.wait_ready()
        wait.for_seconds(self.random.uniform(0.5, 2))
        self._cut_power(self.cluster.numbers())

    def fail_syncs(self):
        """A node whose disk fails a sync ends by itself (R20). What the sync was to write is in no cache to be written
        later: the power of the disk is cut, so that the start sees what is there."""
        alive = self._running()
        if not alive:
            return
        node = self.random.choice(alive)
        disks, process = self.cluster.disks, self.cluster.processes[node]
        before = disks.failed_syncs(node)
        self.say(f"syncs of node {node} fail")
        disks.fail_syncs(node)
        try:
            wait.until(f"the end of node {node}", lambda: not process.alive(), END_SECONDS)
            self.ended += 1
        except wait.Late:
            failed = disks.failed_syncs(node) - before
            assert not failed, f"node {node} goes on after {failed} failed syncs"
            self.say(f"node {node} had nothing to sync")
        disks.mend_syncs(node)
        self._cut_power([node])

    def fill(self):
        """What is left is below one reserve (no produce is taken) or both (nothing is appended), and not below what votes
        and promises need (R22)."""
        node = self.random.choice(self.cluster.numbers())
        room = self.random.choice(ROOMS_BYTES)
        self.say(f"{room >> 20} MiB are left on the disk of node {node}")
        self.cluster.disks.leave(node, room)
        self.later(f"the disk of node {node} has room", lambda: self.cluster.disks.leave(node, None))

    def _running(self):
        return [n for n in self.cluster.numbers() if n in self.cluster.processes and n not in self._frozen]

    def _cut_power(self, nodes):
        # Every other cut spares nothing that was not synced; the others tear.
        seed = self.random.choice([0, self.random.randrange(1, 1 << 32)])
        lost_bytes, lost_names = self.cluster.cut_power(nodes, seed)
        self.say(f"the power of nodes {nodes} is cut (seed {seed}): {lost_bytes} bytes and {lost_names} names are lost")
        self.cuts += 1
        self.lost_bytes += lost_bytes
        self.lost_names += lost_names
        self.later(f"nodes {nodes} start", lambda: self.cluster.start(*nodes, ready=False))
