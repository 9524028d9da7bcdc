"""Nodes whose disk was replaced: they come back by themselves, as somebody else.

What the lost disk promised is forgotten (R22), so a node gets new replicas on the new one: learners
first, voters again when they have everything.
"""

import shutil

import pytest

from harness import batch, cli, dumps, kafka, wait, wire
from harness.load import Load, check, read_back
from harness.process import Process

PARTITIONS = 3


def bootstraps(one):
    return {dc: one.bootstrap(dc) for dc in ("fra", "iad", "sin")}


def wait_votes(one, voters, topic):
    """Until each of the voters says of itself and of the others that all of them vote."""

    def roles():
        tables = [one.cli(n).partition(topic, p)["members"] for n in voters for p in range(PARTITIONS)]
        return [{m["node"]: m["role"] for m in members} for members in tables]

    def all_vote():
        return all(table[n] in ("leader", "voter") for table in roles() for n in voters)

    wait.until(lambda: f"{voters} vote: {roles()}", all_vote, 60, 0.2)


def other(numbers, *than):
    return next(n for n in numbers if n not in than)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("replication", ["async", "sync"])
def test_wiped_voters_come_back_and_vote(replication, cluster, topic, figure):
    """Each node of the home in turn: so in the end no disk is left of those that began, the leaders'
    among them; and a dead node beside a wiped one that is back costs nothing: it really votes."""
    one = cluster()
    home = one.in_dc("fra")
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS, isobar_replication=replication)
    kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
    with Load(one.bootstrap(), topic, PARTITIONS, rate=300) as load:
        load.wait_acknowledged(300)
        for victim in home:
            one.kill9(victim)
            one.wipe(victim)
            load.wait_acknowledged(300)
            one.start(victim)
            wait_votes(one, home, topic)
            kafka.wait_in_sync(one.kafka(other(home, victim)), topic, PARTITIONS)
            load.wait_acknowledged(300)
            dead = other(home, victim)
            one.kill9(dead)
            load.wait_acknowledged(300)
            one.start(dead)
            kafka.wait_in_sync(one.kafka(victim), topic, PARTITIONS)
    figure(f"{replication}: every disk of the home replaced in turn, {len(load.acknowledged())} acks")
    assert load.failures() == [], "an idempotent producer gets over it"
    check(load.sends(), read_back(bootstraps(one), topic, PARTITIONS), list(bootstraps(one)))
    dumps.wait_same(one, topic, PARTITIONS)


@pytest.mark.timeout(300)
def test_a_wiped_learner_comes_back_with_the_same_bytes(cluster, topic):
    one = cluster()
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    with Load(one.bootstrap(), topic, PARTITIONS, rate=300) as load:
        load.wait_acknowledged(300)
        victim = one.in_dc("iad")[0]
        one.kill9(victim)
        one.wipe(victim)
        load.wait_acknowledged(300)
        one.start(victim)
        kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
        load.wait_acknowledged(100)
    assert load.failures() == []
    check(load.sends(), read_back(bootstraps(one), topic, PARTITIONS), list(bootstraps(one)))
    dumps.wait_same(one, topic, PARTITIONS)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_wiped_voter_with_a_long_log_takes_it_over_and_votes(cluster, topic):
    """More than a leader has in memory, so that it comes as ranges from the others' disks."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    home = one.in_dc("fra")
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    for partition in range(PARTITIONS):
        kafka.send(one.bootstrap("fra"), topic, [b"x" * 10_000] * 6000, partition)
    victim = home[0]
    one.kill9(victim)
    one.wipe(victim)
    one.start(victim)
    wait_votes(one, home, topic)
    one.kill9(home[1])
    for partition in range(PARTITIONS):
        kafka.send(one.bootstrap("fra"), topic, ["after"], partition)
    one.start(home[1])
    dumps.wait_same(one, topic, PARTITIONS)


@pytest.mark.timeout(300)
def test_a_wiped_voter_of_the_metadata_votes_again(cluster, topic):
    """Three nodes, all of them voters of `__meta`: one comes back from nothing, then another dies, and
    topics are still made, which takes two."""
    one = cluster({"fra": 1, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), f"{topic}-before")
    fra, iad, sin = one.numbers()
    one.kill9(iad)
    one.wipe(iad)
    one.start(iad)

    def promoted():
        return any("promoted to voter" in one.processes[n].output() for n in one.numbers())

    wait.until("its promotion", promoted, 60)
    kafka.create_topic(one.bootstrap(), f"{topic}-between")
    one.kill9(sin)
    kafka.create_topic(one.kafka(iad), f"{topic}-after")
    assert kafka.send(one.bootstrap("fra"), f"{topic}-after", ["x"]) == [0]
    one.start(sin)
    for name in ("before", "between", "after"):
        kafka.send(one.bootstrap("fra"), f"{topic}-{name}", ["y"])
        dumps.wait_same(one, f"{topic}-{name}", 1)


@pytest.mark.timeout(300)
def test_the_disk_that_was_replaced_stays_out(cluster, topic, tmp_path):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    kafka.send(one.bootstrap(), topic, ["before"])
    victim = one.in_dc("fra")[1]
    one.kill9(victim)
    shutil.move(one.data_dir(victim), tmp_path / "old")
    one.start(victim)
    one.kill9(victim)
    one.wipe(victim)
    shutil.move(tmp_path / "old", one.data_dir(victim))
    one.start(victim, ready=False)
    assert one.processes[victim].wait_end(30) != 0
    assert "was replaced" in one.processes.pop(victim).output()
    # Another empty one is welcome.
    one.wipe(victim)
    one.start(victim)
    kafka.send(one.bootstrap(), topic, ["after"])
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(300)
def test_the_second_lost_disk_of_a_home_is_not_given_up_by_itself(cluster, topic, tmp_path):
    """Two of three voters come back empty: the first is admitted, the second is told what would be
    lost; with its old disk everything acknowledged is there."""
    one = cluster()
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    with Load(one.bootstrap(), topic, PARTITIONS, rate=300) as load:
        load.wait_acknowledged(300)
    first, second, _ = one.in_dc("fra")
    one.kill9(first, second)
    one.wipe(first)
    shutil.move(one.data_dir(second), tmp_path / "old")
    one.start(first)
    one.start(second, ready=False)
    assert one.processes[second].wait_end(30) != 0
    said = one.processes.pop(second).output()
    assert "majority" in said and f"{topic}-0" in said and "--accept-loss" in said, said
    one.wipe(second)
    shutil.move(tmp_path / "old", one.data_dir(second))
    one.start(second)
    kafka.wait_in_sync(one.kafka(second), topic, PARTITIONS)
    check(load.sends(), read_back(bootstraps(one), topic, PARTITIONS), list(bootstraps(one)))
    assert kafka.send(one.bootstrap(), topic, ["after"])
    dumps.wait_same(one, topic, PARTITIONS)


@pytest.mark.timeout(300)
def test_a_disk_is_given_up_on_the_operators_word_and_no_log_is_made_up(cluster, topic):
    """What has its majority elsewhere is repaired; what has lost it has no leader, and no empty log."""
    one = cluster()
    kafka.create_topic(one.bootstrap(), f"{topic}-home", PARTITIONS)
    kafka.create_topic(one.bootstrap(), f"{topic}-far", PARTITIONS, isobar_home="iad")
    for name in ("home", "far"):
        kafka.send(one.bootstrap(), f"{topic}-{name}", ["before"])
    first, second, last = one.in_dc("fra")
    one.kill9(first, second)
    one.wipe(first)
    one.wipe(second)
    one.start(first)
    args = [*cli.start(one.topology, second), "--accept-loss"]
    one.processes[second] = Process(args, one.directory / f"node-{second}.log")
    one.wait_ready(second)
    kafka.send(one.bootstrap("iad"), f"{topic}-far", ["after"])
    dumps.wait_same(one, f"{topic}-far", 1)
    for node in (first, second, last):
        with wire.Connection(one.kafka(node)) as connection:
            answer = wire.produce(connection, f"{topic}-home", 0, batch.encode([b"x"]), timeout_ms=2000)
            assert answer[0] != wire.NONE, "nobody leads it"
    assert one.dump(last, f"{topic}-home", 0).strip(), "what is left is left as it is"


@pytest.mark.timeout(300)
def test_without_a_majority_of_the_metadatas_disks_no_second_cluster_begins(cluster, topic):
    one = cluster({"fra": 1, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    one.kill9(*one.numbers())
    wiped = one.in_dc("iad") + one.in_dc("sin")
    for number in wiped:
        one.wipe(number)
    one.start(ready=False)
    for number in wiped:
        assert one.processes[number].wait_end(60) != 0
        assert "have lost their disks" in one.processes.pop(number).output()
    one.processes[1].assert_alive()


@pytest.mark.timeout(300)
def test_dev_takes_a_wiped_directory_back(own_dev, topic):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic)
    kafka.send(dev.bootstrap(), topic, ["one"])
    assert dev.shut_down() == 0
    for node in (2, 9):
        shutil.rmtree(dev.data_dir(node))
    dev.start(fresh=False)
    kafka.send(dev.bootstrap(), topic, ["two"])
    assert kafka.read(dev.bootstrap(), topic) == [(0, b"one"), (1, b"two")]
    dumps.wait_same(dev, topic, 1)
