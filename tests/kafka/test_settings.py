"""What a setting does, seen from outside (S30)."""

import statistics
import time

import pytest

from harness import batch, http, kafka, wait, wire
from harness.load import Load

AFTER_APPEND = 20
TIMED_OUT = 7


@pytest.mark.timeout(300)
def test_with_fewer_voters_than_min_in_sync_a_produce_is_refused(cluster, topic):
    """Three must have it and one is dead: refused before anything is appended; two must have it: goes on."""
    one = cluster({"fra": 3})
    kafka.create_topic(one.bootstrap(), f"{topic}-3", min_insync_replicas=3)
    kafka.create_topic(one.bootstrap(), f"{topic}-2", min_insync_replicas=2)
    leader, _ = kafka.leader(one.kafka(1), f"{topic}-3")
    victim = next(n for n in one.numbers() if n != leader)

    def log_end():
        ends = http.samples(one.admin(leader), "isobar_log_end_offset", topic=f"{topic}-3", partition=0)
        return max(value for _, value in ends)

    with wire.Connection(one.kafka(leader)) as connection:

        def produce(name, value):
            return wire.produce(connection, name, 0, batch.encode([value]), timeout_ms=1000)[0]

        wait.until("a first record on all three", lambda: produce(f"{topic}-3", b"before") == wire.NONE)
        one.kill9(victim)
        answers = []

        def refuses():
            answers.append(produce(f"{topic}-3", b"meanwhile"))
            return answers[-1] == wire.NOT_ENOUGH_REPLICAS

        wait.until(lambda: f"NOT_ENOUGH_REPLICAS, heard {answers}", refuses)
        # Until the leader knows, what was appended waits for the third and is not acknowledged.
        assert set(answers) <= {TIMED_OUT, wire.NOT_ENOUGH_REPLICAS, AFTER_APPEND}, answers
        end = log_end()
        assert [produce(f"{topic}-3", b"refused") for _ in range(5)] == [wire.NOT_ENOUGH_REPLICAS] * 5
        assert log_end() == end, "what is refused is not appended"
    assert kafka.send(one.bootstrap(), f"{topic}-2", ["x"], acks="all")
    one.start(victim)
    assert kafka.send(one.bootstrap(), f"{topic}-3", ["after"], acks="all")
    values = [value for _, value in kafka.read(one.bootstrap(), f"{topic}-3")]
    assert values[0] == b"before" and values[-1] == b"after" and b"refused" not in values


@pytest.mark.timeout(300)
def test_a_topic_made_by_its_first_use_is_placed_by_its_policy(cluster, topic):
    policies = ("partitions = 3", "", "[policy.near]", 'topics = ["near-*"]', "replicas = { fra = 3, iad = 1 }")
    one = cluster({"fra": 3, "iad": 1, "sin": 1}, policies)
    assert kafka.send(one.bootstrap(), topic, ["x"]) == [0]
    assert kafka.send(one.bootstrap(), f"near-{topic}", ["x"]) == [0]

    def placed(name):
        table = wire.metadata(one.kafka(1), [name])["topics"][name]["partitions"]
        return [sorted(table[number]["replicas"]) for number in sorted(table)]

    assert placed(topic) == [one.numbers()] * 3
    assert placed(f"near-{topic}") == [one.in_dc("fra") + one.in_dc("iad")] * 3


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_longer_election_timeout_makes_a_failover_longer(cluster, topic, figure):
    def took(settings):
        one = cluster({"fra": 3}, settings=settings)
        kafka.create_topic(one.bootstrap(), topic)
        found = []
        with Load(one.bootstrap(), topic, rate=200) as load:
            for _ in range(3):
                load.wait_acknowledged(50)
                leader = kafka.wait_other_leader([one.kafka(1)], topic, 0, -1)
                one.kill9(leader)
                killed = time.monotonic()
                found.append(load.wait_acknowledged(1, seconds=60).ended - killed)
                one.start(leader)
                kafka.wait_in_sync(one.kafka(leader), topic, 1)
        one.close()
        return statistics.median(found)

    default, longer = took(()), took(['election_timeout = "2s"'])
    figure(f"leaders killed, election_timeout 500 ms and 2 s: acknowledged again after {default:.2f} s and {longer:.2f} s, the median of 3")
    assert longer >= 2, "nobody stands for election before"
    assert longer > 2 * default
