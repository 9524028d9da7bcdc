"""A node that was away comes back without disturbing the groups that it did not lead (S83)."""

import time

import pytest

from conftest import LONG
from harness import cluster as clusters
from harness import dumps, kafka, wait, wire
from harness.load import Load, check, read_back

# A machine that stalls processes elects leaders, too.
pytestmark = pytest.mark.alone

AWAY_SECONDS = 300 if LONG else 15
# What it costs partitions that it did not lead. A machine that is busy otherwise takes its share.
GAP_SECONDS = 1.5
PARTITIONS = 6


def terms(one, topic, away):
    """`{partition: (leader, epoch)}` of what `away` does not lead, and `__meta`'s leader and term."""
    witness = next(n for n in one.numbers() if n != away)
    table = wire.metadata(one.kafka(witness), [topic])["topics"][topic]["partitions"]
    led = {number: (p["leader"], p["epoch"]) for number, p in table.items() if p["leader"] != away}
    meta = one.cli(witness).json("cluster", "status")["meta"]
    return led, None if meta["leader"] == away else (meta["leader"], meta["term"])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("dc", ["fra", "iad"])
@pytest.mark.parametrize("how", ["cut off", "frozen"])
def test_a_node_that_was_away_changes_no_term(how, dc, cluster, topic, figure):
    if how == "cut off":
        assert clusters.can_cut_off(), "needs iptables and the right to use it"
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
    away = one.in_dc(dc)[-1]
    # A frozen broker keeps its connections open: only the client's own limit, 60 s by default, tells it
    # that no answer will come, and what it has sent there counts as pending until then.
    patience = {"socket.timeout.ms": 3000}
    with Load(one.bootstrap(), topic, PARTITIONS, rate=200, **patience) as load:
        load.wait_acknowledged(200)
        led, meta = terms(one, topic, away)
        began = time.monotonic()
        if how == "frozen":
            one.stop(away)
        else:
            one.cut_off(away)
        wait.for_seconds(AWAY_SECONDS, lambda: load.wait_acknowledged(1, seconds=30))
        if how == "frozen":
            one.cont(away)
        else:
            one.heal(away)
        kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
        wait.for_seconds(5, lambda: load.wait_acknowledged(1, seconds=10))
    gap = max(load.longest_gap(partition, began) for partition in led)
    figure(f"a node of {dc} {how} for {AWAY_SECONDS} s and back: at most {gap * 1000:.0f} ms between acknowledgements of others' partitions")
    assert gap <= GAP_SECONDS
    after, meta_after = terms(one, topic, away)
    assert {number: after.get(number) for number in led} == led
    assert meta is None or meta_after == meta
    places = {"fra": one.bootstrap("fra"), "iad": one.bootstrap("iad"), "sin": one.bootstrap("sin")}
    check(load.sends(), read_back(places, topic, PARTITIONS), list(places))
    dumps.wait_same(one, topic, PARTITIONS)


@pytest.mark.timeout(900)
def test_idle_terms_do_not_grow(cluster, topic):
    """And every node names the same leader of `__meta` (S1)."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
    before = terms(one, topic, None)
    wait.for_seconds(600 if LONG else 15)
    assert terms(one, topic, None) == before
    assert len({one.cli(node).json("cluster", "status")["controller"] for node in one.numbers()}) == 1
