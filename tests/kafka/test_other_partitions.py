"""A leader's death stops the partitions that it led, and no other (S23)."""

import time

import pytest

from harness import kafka, wire
from harness.load import Load, check, read_back

# Times are the subject.
pytestmark = pytest.mark.alone

PARTITIONS, ROUNDS = 6, 3
# Shorter than any election.
GAP_SECONDS = 0.5


def leaders(one, node, topic):
    table = wire.metadata(one.kafka(node), [topic])["topics"][topic]["partitions"]
    return {number: partition["leader"] for number, partition in table.items()}


def kill_leader_of_p0(one, topic):
    """The longest times without an acknowledgement: of p0, and of the partitions that others lead."""
    witness = one.in_dc("iad")[0]
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    kafka.wait_in_sync(one.kafka(witness), topic, PARTITIONS)
    # One producer for all of them, as applications have it.
    with Load(one.bootstrap("fra"), topic, PARTITIONS, rate=600) as load:
        load.wait_acknowledged(600)
        led = leaders(one, witness, topic)
        others = [number for number, leader in led.items() if leader != led[0]]
        assert others, f"one node leads all: {led}"
        killed = time.monotonic()
        one.kill9(led[0])
        successor = kafka.wait_other_leader([one.kafka(witness)], topic, 0, led[0])
        load.wait_acknowledged(600)
        one.start(led[0])
        kafka.wait_in_sync(one.kafka(witness), topic, PARTITIONS)
        load.wait_acknowledged(600)
    assert successor != led[0] and load.failures() == []
    places = {dc: one.bootstrap(dc) for dc in ("fra", "iad")}
    check(load.sends(), read_back(places, topic, PARTITIONS), list(places))
    return load.longest_gap(0, killed - 0.5), max(load.longest_gap(number, killed - 0.5) for number in others)


@pytest.mark.timeout(180)
def test_partitions_led_elsewhere_do_not_feel_that_a_leader_dies(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    # A topic each, since nobody gives a leader back what it led before.
    gaps = [kill_leader_of_p0(one, f"{topic}-{n}") for n in range(ROUNDS)]
    stopped, felt = (max(column) for column in zip(*gaps, strict=True))
    figure(
        f"{ROUNDS} leaders of p0 killed: longest time without an acknowledgement {felt * 1000:.0f} ms in partitions "
        f"led elsewhere, {stopped:.2f} s in p0"
    )
    assert felt < GAP_SECONDS
