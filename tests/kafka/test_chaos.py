"""Everything at once, by a seed: nodes killed and frozen, links cut, homes moved, under load, and a history that must hold.

On the machine's disk, which loses nothing when a process is killed; and on disks that lose what was not synced when
their power is cut, be it of every node at once, and that fail to sync.
"""

import os
import random

import pytest

from conftest import LONG
from harness import dumps, history, kafka, wait
from harness.cluster import can_cut_off
from harness.disk_nemesis import DiskNemesis
from harness.load import Load, read_back
from harness.nemesis import DCS, Nemesis

SECONDS = 600 if LONG else 90
PARTITIONS = 2


def lost(sends, reads):
    """Acknowledged and not where it was acknowledged, by partition."""
    there = {(read.partition, read.offset): read.value for read in reads if read.place == DCS[0]}
    found = {}
    assert all(send.offset is not None for send in sends), "only idempotent producers know of none"
    for send in sends:
        if send.outcome == history.OK and there.get((send.partition, send.offset)) != send.value:
            found.setdefault(send.partition, []).append(send)
    return found


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Nemesis, id="processes"),
        # Nine nodes that sync through a file system in user space: whatever runs beside it is starved.
        pytest.param(DiskNemesis, id="disks", marks=pytest.mark.alone),
    ],
)
def test_whatever_happens_the_history_holds(kind, cluster, topic, figure):
    assert can_cut_off(), "needs iptables, and to be root"
    seed = int(os.environ.get("ISOBAR_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    one = cluster(faulty_disks=kind is DiskNemesis)
    sync, local = f"{topic}-sync", f"{topic}-async"
    kafka.create_topic(one.bootstrap(), sync, PARTITIONS, isobar_replication="sync")
    kafka.create_topic(one.bootstrap(), local, PARTITIONS)
    everywhere = ",".join(one.bootstrap(dc) for dc in DCS)
    nemesis = kind(one, [sync, local], seed)
    with (
        Load(everywhere, sync, PARTITIONS, rate=100, name="s", timeout_seconds=300) as sync_load,
        Load(everywhere, local, PARTITIONS, rate=100, name="a", idempotent=False, timeout_seconds=300) as local_load,
    ):
        try:
            sync_load.wait_acknowledged(100)
            local_load.wait_acknowledged(100)
            nemesis.run(SECONDS)
            nemesis.say("all is healed")
            one.wait_ready()
            sync_load.wait_acknowledged(100, 120)
            local_load.wait_acknowledged(100, 120)
        finally:
            print(f"ISOBAR_CHAOS_SEED={seed}", *nemesis.log, sep="\n")
    for name in (sync, local):
        dumps.wait_same(one, name, PARTITIONS)
    places = {dc: one.bootstrap(dc) for dc in DCS}
    found = history.anomalies(sync_load.sends(), read_back(places, sync, PARTITIONS), places=list(DCS))
    reads = read_back(places, local, PARTITIONS)
    gone = lost(local_load.sends(), reads)

    def moves():
        ended = [m for m in one.cli(1).json("dc", "history")["ended"] if m["topic"] == local]
        return all(m["beyond_records"] is not None for m in ended) and {"ended": ended}

    ended = wait.until("every old home's disks read", moves, 60)["ended"]
    for partition, sends in gone.items():
        counted = sum(m["beyond_records"] for m in ended if m["partition"] == partition)
        if len(sends) > counted:
            found.append(f"lost-write: {len(sends)} acknowledged of {local}-{partition} are gone, {counted} are in ledgers")
    # What a lost home had acknowledged is counted above, and its offsets were given again; the rest must hold like any
    # other topic's, but that this producer is not idempotent.
    known = {send.value for sends in gone.values() for send in sends}
    kept, read = [s for s in local_load.sends() if s.value not in known], [r for r in reads if r.value not in known]
    expected = ("poll-skip", "real-time") if known else ()
    found += [a for a in history.anomalies(kept, read, idempotent=False, places=list(DCS)) if not a.startswith(expected)]
    accounts = f"{len(sync_load.acknowledged())} acks sync, {len(local_load.acknowledged())} async, {sum(map(len, gone.values()))} of those in ledgers"
    figure(f"chaos, seed {seed}, {SECONDS} s, {len(nemesis.log)} events: {nemesis.account()}{accounts}, {len(found)} anomalies")
    assert found == []
    nemesis.assert_tested()
