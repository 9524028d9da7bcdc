"""Homes move: planned without loss, forced with a verdict that holds, and old homes come back."""

import base64
import itertools
import json
import statistics
import time

import pytest

from conftest import LONG
from harness import batch, cli, dumps, kafka, moves, wait, wire
from harness.load import Load, check, read_back

DCS = ("fra", "iad", "sin")
FAILOVERS = 20 if LONG else 5
RTT_SECONDS = {"fra-iad": 0.090, "iad-sin": 0.220, "fra-sin": 0.160}
NEAR_SECONDS = 0.020


def everywhere(cluster):
    return ",".join(cluster.bootstrap(dc) for dc in DCS)


def bootstraps(cluster):
    return {dc: cluster.bootstrap(dc) for dc in DCS}


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_switchover_there_and_back_loses_and_repeats_nothing(own_dev, topic, figure):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), f"{topic}-async", 2)
    kafka.create_topic(dev.bootstrap(), f"{topic}-sync", isobar_replication="sync")
    topics = ("--topics", f"{topic}-*")
    with (
        Load(everywhere(dev), f"{topic}-async", 2, rate=100) as local,
        Load(everywhere(dev), f"{topic}-sync", 1, rate=50) as sync,
    ):
        for kind, left, target, rtt in (
            ("switchover", "fra", "iad", RTT_SECONDS["fra-iad"]),
            ("switchover", "iad", "sin", RTT_SECONDS["iad-sin"]),
            ("failback", "fra", "fra", RTT_SECONDS["fra-sin"]),
            ("switchover", "fra", "iad", NEAR_SECONDS),
        ):
            if rtt == NEAR_SECONDS:
                for a, b in itertools.combinations(DCS, 2):
                    dev.cli().run("link", "set", a, b, "--rtt", f"{rtt * 1000:.0f}ms")
            local.wait_acknowledged(100)
            sync.wait_acknowledged(50)
            planned = moves.plan(dev.cli(), kind, left, "--to", target, *topics) if kind != "failback" else moves.plan(dev.cli(), kind, left, *topics)
            assert {row["verdict"]["claim"] for row in planned.values()} == {"lossless"}, planned
            began = time.monotonic()
            to = ("--to", target) if kind != "failback" else ()
            ended = moves.move(dev.cli(), kind, left, *to, *topics)
            assert len(ended) == 3
            assert {(m["verdict"]["claim"], m["to"], m["beyond_records"]) for m in ended} == {("lossless", target, 0)}
            local.wait_acknowledged(50)
            sync.wait_acknowledged(25)
            pauses = [moves.longest_pause(load, began) for load in (local, sync)]
            figure(
                f"{kind} to {target}, {rtt * 1000:.0f} ms away: longest time without an acknowledgement "
                f"{pauses[0] * 1000:.0f} ms async, {pauses[1] * 1000:.0f} ms sync"
            )
            assert max(pauses) <= 3 * rtt + 0.5
            for name, partitions in ((f"{topic}-async", 2), (f"{topic}-sync", 1)):
                moves.wait_led_in([dev.kafka(1), dev.kafka(9)], name, dev.nodes(target), partitions)
                assert moves.home(dev.cli(), name)[0] == target
    for load, partitions in ((local, 2), (sync, 1)):
        assert load.failures() == []
        check(load.sends(), read_back(bootstraps(dev), load.topic, partitions), list(DCS))
        dumps.wait_same(dev, load.topic, partitions)


@pytest.mark.alone
@pytest.mark.timeout(FAILOVERS * 120)
def test_a_home_that_is_lost_and_wiped_costs_a_sync_topic_nothing(cluster, topic, figure):
    """Each datacenter in turn loses all its disks while it is the home, and comes back with empty ones."""
    one = cluster()
    probed = f"{topic}-probed"
    for name in (topic, probed):
        kafka.create_topic(one.bootstrap(), name, isobar_replication="sync")

    def is_served(address):
        """Asked without a client's backoff, which grows while nothing is there."""
        leader, _ = kafka.leader(address, probed)
        if leader < 0:
            return False
        with wire.Connection(one.kafka(leader)) as connection:
            return wire.produce(connection, probed, 0, batch.encode([b"probe"]), timeout_ms=1000)[0] == wire.NONE

    decided, served, by_client = [], [], []
    with Load(everywhere(one), topic, rate=200) as load:
        for turn in range(FAILOVERS):
            lost, target = DCS[turn % 3], DCS[(turn + 1) % 3]
            survivor = one.cli(one.in_dc(target)[0])
            assert moves.home(survivor, topic) == (lost, turn + 1)
            load.wait_acknowledged(200)
            numbers = one.in_dc(lost)
            one.kill9(*numbers)
            killed = time.monotonic()
            for number in numbers:
                one.wipe(number)
            wait.until(
                "a leader of __meta", lambda: survivor.json("cluster", "status")["controller"] not in (None, *numbers), 60
            )
            decided.append(time.monotonic() - killed)
            ended = moves.move(survivor, "failover", lost, "--to", target, "--topics", f"{topic}*")
            assert [(m["verdict"]["claim"], m["to"], m["accept_loss"]) for m in ended] == 2 * [("lossless", target, False)]
            there = one.kafka(one.in_dc(target)[0])
            wait.until("served again", lambda: is_served(there), 30, 0.05, errors=(OSError, AssertionError))
            served.append(time.monotonic() - killed - decided[-1])
            by_client.append(load.wait_acknowledged(1, seconds=30).ended - killed - decided[-1])
            one.start(*numbers)
            for name in (topic, probed):
                kafka.wait_in_sync(there, name, 1)
            wait.until("__meta whole again", lambda: not survivor.json("cluster", "status")["meta"]["joining"], 60)
        load.wait_acknowledged(200)
    assert load.failures() == []
    check(load.sends(), read_back(bootstraps(one), topic, 1), list(DCS))
    dumps.wait_same(one, topic, 1)
    figure(
        f"home lost and wiped {FAILOVERS} times, sync: 0 of {len(load.acknowledged())} acknowledged records lost; __meta had a "
        f"leader after {statistics.median(decided):.2f} s (max {max(decided):.2f} s), and so much later it was served again, asked "
        f"for included: {statistics.median(served):.2f} s (max {max(served):.2f} s); librdkafka, which backs off, "
        f"{statistics.median(by_client):.2f} s (max {max(by_client):.2f} s)"
    )
    assert max(served) <= 2


@pytest.mark.timeout(300)
def test_what_an_isolated_home_acknowledged_is_in_its_ledger_to_the_record(own_dev, topic, tmp_path, figure):
    """Async, fenced: cut off it goes on for its lease; what it acknowledged then is counted when it is back."""
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic)
    with Load(everywhere(dev), topic, rate=100) as load:
        load.wait_acknowledged(100)
    leader, _ = kafka.leader(dev.kafka(1), topic)
    wait.until(
        "everything in iad",
        lambda: dev.cli(4).partition(topic, 0)["exposure"].get("iad", {}).get("records") == 0,
        30,
    )
    before = len(load.acknowledged())
    with wire.Connection(dev.kafka(leader)) as connection:
        dev.cli().link_cut("fra", "iad")
        dev.cli().link_cut("fra", "sin")
        alone = []

        def fenced():
            error, offset = wire.produce(connection, topic, 0, batch.encode([b"alone"]), timeout_ms=2000)
            if error == wire.NONE:
                alone.append((time.monotonic(), offset))
            return error != wire.NONE

        wait.until("no acknowledgement without a lease", fenced, 60, 0.1)
        assert alone, "it was alive, and had a lease left"
        ended = moves.move(dev.cli(4), "failover", "fra", "--to", "iad", "--topics", topic)
        assert [(m["verdict"]["claim"], m["to"], m["beyond_records"]) for m in ended] == [("unbounded_since", "iad", None)]
        activated = time.monotonic()
        assert wire.produce(connection, topic, 0, batch.encode([b"too late"]), timeout_ms=1000)[0] != wire.NONE
    assert max(at for at, _ in alone) < activated
    values = kafka.send(dev.bootstrap("iad"), topic, ["after"])
    cut = ended[0]["cut_offset"]
    assert values == [cut]
    began = time.monotonic()
    assert dev.cli(4).json("dc", "history")["groups"]["silent"] == dev.nodes("fra")
    assert time.monotonic() - began < 1, "who is known to be silent is not waited for"
    dev.cli().link_heal("fra", "iad")
    dev.cli().link_heal("fra", "sin")
    (move,) = moves.wait_counted(dev.cli(4), topic)
    beyond = [offset for _, offset in alone if offset >= cut]
    figure(f"an isolated home acknowledged {len(alone)} records alone, {len(beyond)} of them beyond the cut; its ledger has {move['beyond_records']}")
    assert len(beyond) <= move["beyond_records"] <= len(beyond) + 2, "what was not acknowledged may be there too"
    assert move["ledgers"] and set(move["ledgers"]) <= set(dev.nodes("fra"))
    for node in move["ledgers"]:
        out = tmp_path / f"beyond-{node}"
        where = ("--data-dir", dev.data_dir(node), "--topic", topic, "--partition", 0)
        cli.run("ledger", "export", *where, "--out", out, "--json")
        kept = {record["offset"]: record["value"] for record in map(json.loads, out.read_text().splitlines())}
        assert len(kept) == move["beyond_records"]
        assert {kept.get(offset) for offset in beyond} <= {base64.b64encode(b"alone").decode()}, "nothing acknowledged is missing"
    dumps.wait_same(dev, topic, 1)
    read = [value for _, value in kafka.read(dev.bootstrap("fra"), topic, rack="fra")]
    assert read[:before] == [send.value.encode() for send in sorted(load.acknowledged(), key=lambda s: s.offset)]


@pytest.mark.timeout(120)
def test_moves_that_cannot_be_are_refused_with_a_reason(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic, isobar_replication="sync")
    for args, reason in (
        (("switchover", "nowhere", "--to", "iad"), "nowhere"),
        (("switchover", "fra", "--to", "fra"), "name another DC"),
        (("switchover", "fra", "--to", "iad", "--topics", "a/b"), "topic pattern"),
        (("failback", "fra", "--to", "iad"), "a failback goes to"),
    ):
        done = dev.cli().run("dc", *args, "--yes", check=False)
        assert done.returncode != 0 and reason in done.stderr, done.stderr
    done = dev.cli().run("dc", "switchover", "fra", "--topics", topic, check=False)
    assert done.returncode != 0 and "--yes" in done.stderr, "nobody has answered the question"
    assert moves.home(dev.cli(), topic) == ("fra", 1)
