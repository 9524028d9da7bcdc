"""What many partitions cost while nobody uses them (S7): little CPU, little memory, little on the WAN, and no election."""

import time

import pytest

from conftest import LONG
from harness import http, kafka, wait
from harness.dev import NODES

# In topics of so many partitions at most: one that has just been made is waited for.
FEW, MANY, TOPIC_MAX = 20, 10_000 if LONG else 300, 2_000
IDLE_SECONDS = 60 if LONG else 8

# Caps, about twice what was measured. A node has a replica of each of the partitions. Their groups are quiet: one beat
# for each pair of nodes stands for them, so that neither work nor traffic may grow with the partitions by much.
CORE_MAX, CORE_PER_PARTITION = 0.02, 0.003 / 1000
MEMORY_PER_REPLICA_KIB = 50
LINK_BYTES_PER_SECOND = 20_000


def sent(dev):
    """`{(from, to): bytes}` of every WAN link, each way."""
    told = [http.samples(dev.admin(dev.nodes(dc)[0]), "isobar_wan_bytes_total") for dc in ("fra", "iad", "sin")]
    return {(labels["from"], labels["to"]): value for samples in told for labels, value in samples}


def elections(dev):
    return sum(value for node in NODES for _, value in http.samples(dev.admin(node), "isobar_raft_elections_total"))


def quiet(dev):
    return sum(value for node in NODES for _, value in http.samples(dev.admin(node), "isobar_quiet_replicas"))


def idle(dev, partitions):
    """CPU of all nodes in cores, and bytes a second of the busiest link, over a while in which nobody uses them."""
    replicas = partitions * len(NODES)
    wait.until(f"{replicas} replicas quiet", lambda: quiet(dev) >= replicas, 300, every=1)
    cpu, links, began = dev.process.cpu_seconds(), sent(dev), time.monotonic()
    wait.for_seconds(IDLE_SECONDS)
    seconds = time.monotonic() - began
    used = (dev.process.cpu_seconds() - cpu) / seconds
    return used, max(after - links[link] for link, after in sent(dev).items()) / seconds


@pytest.mark.alone
@pytest.mark.timeout(1500)
def test_idle_partitions_are_cheap(own_dev, topic, figure):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), f"{topic}-few", FEW)
    kafka.wait_in_sync(dev.kafka(1), f"{topic}-few", FEW)
    cpu_few, link_few = idle(dev, FEW)
    memory_few = dev.process.resident_bytes()
    for first in range(0, MANY, TOPIC_MAX):
        count = min(TOPIC_MAX, MANY - first)
        kafka.create_topic(dev.bootstrap(), f"{topic}-{first}", count)
        kafka.wait_in_sync(dev.kafka(1), f"{topic}-{first}", count, seconds=300)
    before = elections(dev)
    cpu, link = idle(dev, FEW + MANY)
    memory = (dev.process.resident_bytes() - memory_few) / MANY / len(NODES) / 1024
    for partitions, cores, rate in ((FEW, cpu_few, link_few), (MANY, cpu, link)):
        figure(
            f"{partitions} idle partitions x {len(NODES)} replicas: {cores / len(NODES):.2%} of a core a node, "
            f"{rate / 1000:.1f} kB/s on the busiest link each way"
        )
    figure(f"{MANY} idle partitions: {memory:.0f} KiB a replica, {dev.process.resident_bytes() >> 20} MiB in all")
    assert elections(dev) == before
    assert cpu / len(NODES) <= CORE_MAX + MANY * CORE_PER_PARTITION
    assert memory <= MEMORY_PER_REPLICA_KIB
    assert link <= LINK_BYTES_PER_SECOND, "whatever their number"
