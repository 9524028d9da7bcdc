"""`kill -9` under load, with a checker: what was acknowledged is there, in order, once."""

import statistics
import time

import pytest

from conftest import LONG
from harness import batch, dumps, kafka, wait, wire
from harness.load import Load, check, read_back

FAILOVERS = 20
FAILOVER_P50_SECONDS = 1.0
PARTITIONS = 3


def bootstraps(one):
    return {dc: one.bootstrap(dc) for dc in ("fra", "iad", "sin")}


def alive_address(one, *dead):
    return next(one.kafka(n) for n in one.numbers() if n not in dead)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("replication", ["async", "sync"])
def test_each_node_in_turn_dies_and_nothing_acknowledged_is_lost(replication, cluster, topic, figure):
    one = cluster()
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS, isobar_replication=replication)
    kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
    with Load(one.bootstrap(), topic, PARTITIONS, rate=300) as load:
        load.wait_acknowledged(100)
        for number in one.numbers():
            one.kill9(number)
            load.wait_acknowledged(100, seconds=60)
            one.start(number)
            kafka.wait_in_sync(alive_address(one, number), topic, PARTITIONS)
        load.wait_acknowledged(100)
    figure(f"{replication}: nine nodes killed in turn, {len(load.acknowledged())} acks, {len(load.failures())} failures")
    assert load.failures() == [], "an idempotent producer gets over a dead node"
    check(load.sends(), read_back(bootstraps(one), topic, PARTITIONS), list(bootstraps(one)))
    dumps.wait_same(one, topic, PARTITIONS)


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_all_nodes_die_at_once_and_everything_acknowledged_is_there(cluster, topic, figure):
    one = cluster()
    kafka.create_topic(one.bootstrap(), f"{topic}-async", PARTITIONS)
    kafka.create_topic(one.bootstrap(), f"{topic}-sync", PARTITIONS, isobar_replication="sync")
    with (
        Load(one.bootstrap(), f"{topic}-async", PARTITIONS, rate=300) as local,
        Load(one.bootstrap(), f"{topic}-sync", PARTITIONS, rate=300) as sync,
    ):
        for _ in range(3 if LONG else 1):
            local.wait_acknowledged(300)
            sync.wait_acknowledged(300)
            one.kill9(*one.numbers())
            began = time.monotonic()
            one.start()
            local.wait_acknowledged(1, seconds=60)
            figure(f"all nine nodes killed at once: first acknowledgement {time.monotonic() - began:.1f} s after the start")
        local.wait_acknowledged(100)
        sync.wait_acknowledged(100)
    for load in (local, sync):
        check(load.sends(), read_back(bootstraps(one), load.topic, PARTITIONS), list(bootstraps(one)))
        dumps.wait_same(one, load.topic, PARTITIONS)


@pytest.mark.alone
@pytest.mark.timeout(1200)
def test_a_dead_leader_is_followed_within_a_second(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    witness = one.kafka(one.in_dc("iad")[0])
    took = []
    # A producer of the home DC: whom it asks for the new leader notices the old one's death at once.
    with Load(one.bootstrap("fra"), topic, rate=500) as load:
        for _ in range(FAILOVERS):
            kafka.wait_in_sync(witness, topic, 1)
            load.wait_acknowledged(100)
            leader, _ = kafka.leader(witness, topic)
            one.kill9(leader)
            killed = time.monotonic()
            first = load.wait_acknowledged(1, seconds=30)
            took.append(first.ended - killed)
            assert kafka.wait_other_leader([witness], topic, 0, leader) != leader
            one.start(leader)
    took.sort()
    figure(
        f"{FAILOVERS} leaders killed: first acknowledged produce after p50 {statistics.median(took):.2f} s, "
        f"max {took[-1]:.2f} s"
    )
    assert load.failures() == []
    check(load.sends(), read_back(bootstraps(one), topic, 1), list(bootstraps(one)))
    assert statistics.median(took) <= FAILOVER_P50_SECONDS


@pytest.mark.timeout(120)
def test_who_asks_for_a_dead_leader_is_told_its_successor(cluster, topic):
    """And not that there is none; but no other answer waits for that."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    witness = one.kafka(one.in_dc("iad")[0])
    kafka.wait_in_sync(witness, topic, 1)
    dead, _ = kafka.leader(witness, topic)
    asked = one.kafka(next(n for n in one.in_dc("fra") if n != dead))
    with wire.Connection(asked) as patient, wire.Connection(asked) as busy:
        wire.api_versions(patient), wire.api_versions(busy)
        one.kill9(dead)
        successor, nobody = (wire.begin_metadata(connection, [topic]) for connection in (patient, busy))
        behind = busy.begin(wire.API_VERSIONS, 0, b"")
        led = lambda answer: answer["topics"][topic]["partitions"][0]["leader"]
        assert led(nobody()) == -1, "a request behind it waited for an election"
        assert behind().int("h") == wire.NONE
        assert led(successor()) not in (-1, dead)


@pytest.mark.timeout(300)
def test_without_a_majority_nothing_is_acknowledged(cluster, topic):
    """Two of three voters frozen: no success, no answer that hangs for ever; thawed, it goes on."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    leader, _ = kafka.leader(one.kafka(1), topic)
    with wire.Connection(one.kafka(leader)) as connection:
        assert wire.produce(connection, topic, 0, batch.encode([b"before"])) == (wire.NONE, 0)
        frozen = [n for n in one.in_dc("fra") if n != leader]
        for number in frozen:
            one.stop(number)
        try:
            answers = [
                wire.produce(connection, topic, 0, batch.encode([b"meanwhile"]), timeout_ms=2000)[0] for _ in range(3)
            ]
        finally:
            for number in frozen:
                one.cont(number)
        assert wire.NONE not in answers
    assert kafka.send(one.bootstrap(), topic, ["after"])
    values = [value for _, value in kafka.read(one.bootstrap(), topic)]
    assert values[0] == b"before" and values[-1] == b"after"
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(300)
def test_of_five_voters_two_may_die(cluster, topic):
    """A third one, and a produce is refused in time, with an error that may be asked again (S12)."""
    one = cluster({"fra": 5, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, isobar_replicas="fra=5,iad=1,sin=1")
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    with Load(one.bootstrap("fra"), topic, rate=200) as load:
        load.wait_acknowledged(50)
        leader, _ = kafka.leader(one.kafka(6), topic)
        dead = [leader, next(n for n in one.in_dc("fra") if n != leader)]
        one.kill9(*dead)
        load.wait_acknowledged(100)
        leader = kafka.wait_other_leader([one.kafka(6)], topic, 0, dead[0])
    assert load.failures() == []
    check(load.sends(), read_back(bootstraps(one), topic, 1), list(bootstraps(one)))
    third = next(n for n in one.in_dc("fra") if n not in (leader, *dead))
    one.kill9(third)
    with wire.Connection(one.kafka(leader)) as connection:
        answers = [wire.produce(connection, topic, 0, batch.encode([b"refused"]), timeout_ms=2000)[0] for _ in range(3)]
    assert set(answers) <= {wire.REQUEST_TIMED_OUT, wire.NOT_ENOUGH_REPLICAS, wire.NOT_LEADER_OR_FOLLOWER}, answers
    one.start(third, *dead)
    assert kafka.send(one.bootstrap(), topic, ["after"])
    dumps.wait_same(one, topic, 1)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_an_ordered_end_moves_its_leaders_first(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    with Load(one.bootstrap(), topic, rate=500) as load:
        load.wait_acknowledged(200)
        leader, _ = kafka.leader(one.kafka(4), topic)
        assert one.shut_down(leader) == 0
        named = lambda: leader in wire.metadata(one.kafka(4))["brokers"]
        assert named(), "a client that hears of its end and of the next leader at once loses the partition between them"
        load.wait_acknowledged(200)
        wait.until("it is a broker no more", lambda: not named(), 10)
        acks = sorted(send.ended for send in load.acknowledged())
        one.start(leader)
        kafka.wait_in_sync(one.kafka(4), topic, 1)
    gap = max(b - a for a, b in zip(acks, acks[1:], strict=False))
    figure(f"a leader ended by SIGTERM: longest time without an acknowledgement {gap * 1000:.0f} ms")
    assert gap <= 0.5, "shorter than any election"
    assert load.failures() == []
    check(load.sends(), read_back(bootstraps(one), topic, 1), list(bootstraps(one)))


def test_an_ordered_end_answers_who_waits(cluster, topic):
    """A long poll is answered, and what was asked behind it: nothing that was read goes without a word."""
    one = cluster({"fra": 1, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    leader, _ = kafka.leader(one.kafka(1), topic)
    with wire.Connection(one.kafka(leader)) as connection:
        fetched = wire.begin_fetch(connection, topic, 0, 0, wait_ms=60_000)
        # Its topic is there: that it was read, and so was the fetch before it.
        made = wire.begin_create(connection, f"{topic}-behind")
        wait.until("both read", lambda: f"{topic}-behind" in wire.metadata(one.kafka(leader))["topics"], 30)
        began = time.monotonic()
        assert one.shut_down(leader) == 0
        assert time.monotonic() - began < 30, "it did not wait for the poll's end"
        found = fetched()
        assert (found["error"], found["records"]) == (wire.NONE, b"")
        assert made() == wire.NONE
