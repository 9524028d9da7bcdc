"""Homes that move by themselves: when their datacenter is lost, and only then."""

import json
import time

import pytest
from confluent_kafka import TopicPartition

from harness import batch, cli, dumps, kafka, moves, wait, wire
from harness.load import Load, check, read_back

DCS = ("fra", "iad", "sin")
# QUIC gives a silent peer up after 3 to 5 s, 5 s more without a break make a loss, and `__meta` needs a leader, the move
# a few round trips and clients their backoff.
SYNC_SECONDS = 14
# And the leases of the old home.
ASYNC_SECONDS = 22


def everywhere(one):
    return ",".join(one.bootstrap(dc) for dc in DCS if one.in_dc(dc))


def history(admin, topic):
    return [move for move in admin.json("dc", "history")["ended"] if move["topic"] == topic]


def commit(bootstrap, group, topic, offset):
    member = kafka.consumer(bootstrap, group_id=group)
    try:
        member.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    finally:
        member.close()


def committed(bootstrap, group, topic):
    member = kafka.consumer(bootstrap, group_id=group)
    try:
        return member.committed([TopicPartition(topic, 0)], timeout=60)[0].offset
    finally:
        member.close()


def lose(one, numbers):
    """Kills the nodes and wipes their disks; when they died."""
    one.kill9(*numbers)
    killed = time.monotonic()
    for number in numbers:
        one.wipe(number)
    return killed


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_lost_home_is_served_elsewhere_with_nobody_there(cluster, topic, figure):
    one = cluster()
    sync, local, manual = f"{topic}-sync", f"{topic}-async", f"{topic}-manual"
    kafka.create_topic(one.bootstrap(), sync, isobar_replication="sync", isobar_failover="automatic")
    kafka.create_topic(one.bootstrap(), local, isobar_failover="automatic")
    kafka.create_topic(one.bootstrap(), manual)
    commit(one.bootstrap(), f"{topic}-group", sync, 7)
    lost, survivor = one.in_dc("fra"), one.cli(one.in_dc("iad")[0])
    with (
        Load(everywhere(one), sync, rate=200) as sync_load,
        Load(everywhere(one), local, rate=200) as local_load,
    ):
        sync_load.wait_acknowledged(200)
        local_load.wait_acknowledged(200)
        killed = lose(one, lost)
        # What begins after the death and is acknowledged was so by the new home.
        sync_took = sync_load.wait_acknowledged(1, 60).ended - killed
        local_took = local_load.wait_acknowledged(1, 60).ended - killed
        sync_load.wait_acknowledged(200)
        local_load.wait_acknowledged(200)
    figure(f"home lost, nobody there: served again after {sync_took:.1f} s sync, {local_took:.1f} s async")
    assert sync_took <= SYNC_SECONDS
    assert local_took <= ASYNC_SECONDS
    assert committed(one.bootstrap("iad"), f"{topic}-group", sync) == 7
    (moved,) = history(survivor, sync)
    assert (moved["automatic"], moved["verdict"]["claim"], moved["to"], moved["accept_loss"]) == (True, "lossless", "iad", False)
    (moved,) = history(survivor, local)
    assert (moved["automatic"], moved["to"]) == (True, "iad")
    assert moves.home(survivor, manual) == ("fra", 1), "nobody has asked for it"
    assert "fra is lost" in survivor.run("dc", "status").stdout
    places = {dc: one.bootstrap(dc) for dc in DCS if dc != "fra"}
    assert sync_load.failures() == []
    check(sync_load.sends(), read_back(places, sync, 1), list(places))
    # Empty disks do not come back before it is decided what was on them.
    moves.move(survivor, "failover", "fra", "--to", "iad", "--topics", manual)
    one.start(*lost)
    dumps.wait_same(one, sync, 1)
    assert moves.home(survivor, sync) == ("iad", 2), "back at home only when somebody says so"


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_two_datacenters_and_a_witness_lose_one(cluster, topic, figure):
    """Async is served; a sync topic has nobody left to be sync with: it moves without loss, and waits."""
    one = cluster({"fra": 3, "iad": 3, "wit": 1})
    sync, local = f"{topic}-sync", f"{topic}-async"
    kafka.create_topic(one.bootstrap(), sync, isobar_replication="sync", isobar_failover="automatic")
    kafka.create_topic(one.bootstrap(), local, isobar_failover="automatic")
    lost, survivor = one.in_dc("fra"), one.cli(one.in_dc("iad")[0])
    with (
        Load(everywhere(one), sync, rate=50) as sync_load,
        Load(everywhere(one), local, rate=200) as local_load,
    ):
        sync_load.wait_acknowledged(50)
        local_load.wait_acknowledged(200)
        killed = lose(one, lost)
        took = local_load.wait_acknowledged(1, 60).ended - killed
        figure(f"two datacenters and a witness, home lost, nobody there: served again after {took:.1f} s async")
        assert took <= ASYNC_SECONDS
        (moved,) = wait.until("the sync topic moved", lambda: history(survivor, sync), 30)
        assert (moved["automatic"], moved["verdict"]["claim"], moved["to"]) == (True, "lossless", "iad")
        assert [send for send in sync_load.acknowledged() if send.invoked > killed] == []
        one.start(*lost)
        sync_load.wait_acknowledged(50, 90)
    assert sync_load.failures() == []
    places = {dc: one.bootstrap(dc) for dc in ("fra", "iad")}
    check(sync_load.sends(), read_back(places, sync, 1), list(places))


@pytest.mark.timeout(300)
def test_what_comes_and_goes_moves_nothing_and_who_is_cut_off_for_long_has_stopped(own_dev, topic, figure):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, isobar_failover="automatic")
    there = dev.cli(4)
    with Load(dev.bootstrap("fra"), topic, rate=100) as load:
        load.wait_acknowledged(100)
        # Both links of the home flap, each time for less than makes a loss; then one is cut for longer.
        for seconds, others in ((6, ("iad", "sin")), (6, ("iad", "sin")), (15, ("iad",))):
            for dc in others:
                dev.cli().link_cut("fra", dc)
            wait.for_seconds(seconds)
            for dc in others:
                dev.cli().link_heal("fra", dc)
            load.wait_acknowledged(50)
        assert history(there, topic) == [] and moves.home(there, topic) == ("fra", 1)
    assert load.failures() == []
    leader, _ = kafka.leader(dev.kafka(1), topic)
    with wire.Connection(dev.kafka(leader)) as connection:
        for dc in ("iad", "sin"):
            dev.cli().link_cut("fra", dc)
        cut, alone = time.monotonic(), []

        def moved_away():
            error, offset = wire.produce(connection, topic, 0, batch.encode([b"alone"]), timeout_ms=500)
            if error == wire.NONE:
                alone.append((time.monotonic(), offset))
            return history(there, topic)

        (moved,) = wait.until("the home elsewhere", moved_away, 90, 0.1)
        ended = time.monotonic()
        assert wire.produce(connection, topic, 0, batch.encode([b"too late"]), timeout_ms=1000)[0] != wire.NONE
    assert moved["automatic"] and alone and max(at for at, _ in alone) < ended
    assert kafka.send(dev.bootstrap("iad"), topic, ["after"]) == [moved["cut_offset"]]
    figure(
        f"home cut off from everybody: moved by itself after {ended - cut:.1f} s, "
        f"the old one had stopped {ended - max(at for at, _ in alone):.1f} s before"
    )
    for dc in ("iad", "sin"):
        dev.cli().link_heal("fra", dc)
    beyond = [offset for _, offset in alone if offset >= moved["cut_offset"]]

    def counted():
        (latest,) = history(there, topic)
        return latest["beyond_records"] is not None and latest

    read = wait.until("the old home's disks read", counted, 60)
    assert len(beyond) <= read["beyond_records"] <= len(beyond) + 2
    dumps.wait_same(dev, topic, 1)
    assert moves.home(there, topic) == ("iad", 2), "it stays where it is"


def test_what_cannot_move_by_itself_is_refused_when_it_is_said(dev, topic):
    for configs, why in (
        ({"isobar_on_isolation": "continue"}, "on_isolation"),
        ({"isobar_replicas": "fra=3"}, "no remote DC"),
    ):
        with pytest.raises(Exception, match=why):
            kafka.create_topic(dev.bootstrap(), topic, isobar_failover="automatic", **configs)
    done = cli.run("dc", "status", "--json", "--admin", dev.admin(4))
    shown = json.loads(done.stdout)
    assert shown["held"] == [] and {dc["gone_seconds"] for dc in shown["dcs"].values()} == {None}
