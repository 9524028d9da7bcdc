"""A sync topic that may degrade: it waits for its timeout, is on record before the first weaker acknowledgement, and
is sync again by itself. Partition 0 has librdkafka's load; partition 1 is asked by hand."""

import contextlib
import time

import pytest

from harness import batch, dumps, http, kafka, moves, wait, wire
from harness.load import Load, check, read_back

TIMEOUT = 2.0
DCS = ("fra", "iad", "sin")


@contextlib.contextmanager
def cut(dev, *links):
    """Yields when they are cut, with the time."""
    try:
        for a, b in links:
            dev.cli().link_cut(a, b)
        yield time.monotonic()
    finally:
        for a, b in links:
            dev.cli().link_heal(a, b)


def behind(dev):
    """A datacenter that does not lead `__meta`: without the link to it, the home still hears what is recorded."""
    controller = dev.cli().json("cluster", "status")["controller"]
    return "sin" if controller in dev.nodes("iad") else "iad"


def create(dev, topic, sync_to=2, **config):
    config = {"isobar_on_sync_loss": "degrade", "isobar_sync_timeout": f"{TIMEOUT:g}s"} | config
    kafka.create_topic(dev.bootstrap(), topic, 2, isobar_replication="sync", isobar_sync_to=str(sync_to), **config)
    return [kafka.leader(dev.kafka(1), topic, partition)[0] for partition in (0, 1)]


def ask(connection, topic, timeout_ms=1000):
    return wire.produce(connection, topic, 1, batch.encode([b"by hand"]), timeout_ms=timeout_ms)[0]


def took(send):
    return send.ended - send.invoked


def changes(dev, topic, node=1):
    """`(partition, degraded, when)` of every change on record."""
    unix = time.time() - time.monotonic()
    history = dev.cli(node).json("dc", "history")["changes"]
    return [(c["partition"], c["degraded"], c["at_ms"] / 1000 - unix) for c in history if c["topic"] == topic]


def promise(dev, topic, partition=0, node=1):
    """What the leader says, by the command line and the scrape alike."""
    shown = dev.cli(node).partition(topic, partition)
    found = http.samples(dev.admin(shown["leader"]), "isobar_sync_degraded", topic=topic, partition=partition)
    assert [value for _, value in found] == [float(shown["promise"] != "sync")], (shown["promise"], found)
    return shown["promise"]


def wait_sync_again(dev, topic, node=1):
    wait.until(
        "sync again, and on record",
        lambda: all(promise(dev, topic, n, node) == "sync" for n in (0, 1)),
        60,
        errors=(AssertionError,),
    )


@pytest.mark.timeout(300)
def test_it_goes_on_without_a_datacenter_once_that_is_on_record_and_is_sync_again_by_itself(own_dev, topic, figure):
    dev = own_dev()
    away = behind(dev)
    leaders = create(dev, topic)
    kafka.create_topic(dev.bootstrap(), f"{topic}-blocks", 2, isobar_replication="sync", isobar_sync_to="2")
    blocking = kafka.leader(dev.kafka(1), f"{topic}-blocks", 1)[0]
    with (
        Load(dev.bootstrap(), topic, rate=100) as load,
        wire.Connection(dev.kafka(leaders[1])) as by_hand,
        wire.Connection(dev.kafka(blocking)) as blocked,
    ):
        load.wait_acknowledged(50)
        assert promise(dev, topic) == "sync"
        with cut(dev, ("fra", away)) as began:
            load.wait_acknowledged(100, 60)
            recorded = min(at for partition, _, at in changes(dev, topic) if partition == 0)
            # Of what was sent after the cut; what was on its way may have come through.
            first = min(send.ended for send in load.acknowledged() if send.invoked > began)
            figure(f"degrade after {TIMEOUT:g} s: on record {recorded - began:.2f} s after the cut, first ack {first - began:.2f} s")
            assert recorded - began >= TIMEOUT - 0.5, "it waits for its timeout"
            assert recorded <= first, "on record before the first weaker acknowledgement (R7)"
            assert first - began < TIMEOUT + 8
            assert promise(dev, topic) == "degraded"
            wait.until("the quiet partition too", lambda: ask(by_hand, topic) == wire.NONE)
            assert ask(blocked, f"{topic}-blocks") in (wire.NOT_ENOUGH_REPLICAS, wire.REQUEST_TIMED_OUT)
            assert changes(dev, f"{topic}-blocks") == []
            status = dev.cli().run("dc", "status").stdout
            assert "DEGRADED" in status and "may be lost with it" in status, status
            assert "DEGRADED" in dev.cli().run("cluster", "partition-info", "--topic", topic, "--partition", 0).stdout
            # The home alone answers: no round trip is waited for.
            assert min(took(send) for send in load.acknowledged()[-50:]) < 0.08
        wait_sync_again(dev, topic)
        again = time.monotonic()
        load.wait_acknowledged(100)
        assert min(took(send) for send in load.acknowledged() if send.invoked > again) >= 0.155, "the far one is waited for again"
        for partition in (0, 1):
            words = [degraded for of, degraded, _ in changes(dev, topic) if of == partition]
            assert words == [True, False] * (len(words) // 2) and words, words
        assert dev.cli().json("dc", "status")["degraded"] == []
    assert load.failures() == []
    bootstraps = {dc: dev.bootstrap(dc) for dc in DCS}
    check(load.sends(), read_back(bootstraps, topic, 1), list(bootstraps))
    dumps.wait_same(dev, topic, 2)


@pytest.mark.timeout(180)
def test_without_meta_nothing_is_weakened(own_dev, topic):
    dev = own_dev()
    leaders = create(dev, topic, sync_to=1)
    with wire.Connection(dev.kafka(leaders[1])) as by_hand:
        assert ask(by_hand, topic, 5000) == wire.NONE
        with cut(dev, ("fra", "iad"), ("fra", "sin")):
            refused = (wire.NOT_ENOUGH_REPLICAS, wire.NOT_ENOUGH_REPLICAS_AFTER_APPEND, wire.REQUEST_TIMED_OUT)
            answers = []
            wait.for_seconds(3 * TIMEOUT, lambda: answers.append(ask(by_hand, topic)))
            assert answers and set(answers) <= set(refused), answers
            assert dev.cli().partition(topic, 1)["promise"] == "sync"
            assert changes(dev, topic, node=4) == []
        # Once `__meta` is heard again, it may grant what was asked for meanwhile; that is taken back by itself.
        wait.until("taken again", lambda: ask(by_hand, topic, 5000) == wire.NONE, 30)
    wait_sync_again(dev, topic)


@pytest.mark.timeout(300)
def test_a_home_that_is_lost_while_degraded_is_not_called_lossless(own_dev, topic):
    """Then what it had alone is in the ledger, and the new home begins degraded too."""
    dev = own_dev()
    away = behind(dev)
    stays = "iad" if away == "sin" else "sin"
    leaders = create(dev, topic)
    with wire.Connection(dev.kafka(leaders[1])) as by_hand:
        assert ask(by_hand, topic, 5000) == wire.NONE
        with cut(dev, ("fra", away)):
            wait.until("degraded", lambda: ask(by_hand, topic) == wire.NONE, 30)
            wait.until(
                "all of it where the home is led from next",
                lambda: dev.cli().partition(topic, 1)["exposure"].get(stays, {}).get("records") == 0,
            )
            elsewhere = dev.cli(dev.nodes(stays)[0])
            with cut(dev, ("fra", stays)):
                # The lease goes on for a while, as an async home's does.
                alone = 0
                while ask(by_hand, topic) == wire.NONE:
                    alone += 1
                assert alone > 0
                wait.until(
                    "a leader of __meta elsewhere",
                    lambda: elsewhere.json("cluster", "status")["controller"] not in (None, *dev.nodes("fra")),
                    60,
                )
                plan = elsewhere.json("dc", "failover", "fra", "--to", stays, "--topics", topic, "--plan")
                (planned,) = plan["topics"]
                assert planned["refused"] is None and planned["verdict"]["claim"] == "unbounded_since", planned
                moves.move(elsewhere, "failover", "fra", "--to", stays, "--topics", topic)
                moves.wait_led_in([dev.kafka(dev.nodes(stays)[0])], topic, dev.nodes(stays), partitions=2)
                assert promise(dev, topic, 1, dev.nodes(stays)[0]) in ("degraded", "recovering", "sync")
    counted = wait.until(
        "partition 1 counted", lambda: [m for m in moves.wait_counted(elsewhere, topic) if m["partition"] == 1], 60
    )
    # One more at most was appended, and not acknowledged before the lease was over.
    assert [move["beyond_records"] - alone in (0, 1) for move in counted] == [True], (alone, counted)
    wait_sync_again(dev, topic, dev.nodes(stays)[0])
