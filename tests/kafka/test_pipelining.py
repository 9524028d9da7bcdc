"""Requests of one connection are worked on at the same time, and answered in their order."""

import select
import time

import pytest

from harness import batch, kafka, wire

ROUND_TRIP_SECONDS = 0.4
REQUESTS = 5
# Half a megabyte each: twice of what a partition takes before a majority has it.
OUTRUNNING = 300


def leader_of(dev, topic):
    return wire.Connection(dev.kafka(kafka.leader(dev.kafka(1), topic)[0]))


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_produces_of_one_connection_share_their_round_trip(own_dev, topic, figure):
    """A sync topic waits for another datacenter: five produces take as long as one, not as five."""
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, isobar_replication="sync")
    for other in ("iad", "sin"):
        dev.cli().link_set("fra", other, rtt=f"{ROUND_TRIP_SECONDS * 1000:.0f}ms")
    with leader_of(dev, topic) as connection:
        assert wire.produce(connection, topic, 0, batch.encode([b"before"])) == (wire.NONE, 0)
        began = time.monotonic()
        answers = [wire.begin_produce(connection, topic, 0, batch.encode([b"%d" % n])) for n in range(REQUESTS)]
        took, offsets = [], []
        for answer in answers:
            offsets.append(answer())
            took.append(time.monotonic() - began)
    figure(
        f"{REQUESTS} produces of one connection to a sync topic, round trip {ROUND_TRIP_SECONDS * 1000:.0f} ms: "
        f"answered after {took[0] * 1000:.0f} to {took[-1] * 1000:.0f} ms"
    )
    assert offsets == [(wire.NONE, 1 + n) for n in range(REQUESTS)]
    assert took[0] > ROUND_TRIP_SECONDS * 0.9, "none was answered before it was in another datacenter"
    assert took[-1] < ROUND_TRIP_SECONDS * 2
    values = [value for _, value in kafka.read(dev.bootstrap(), topic)]
    assert values == [b"before", *(b"%d" % n for n in range(REQUESTS))]


def test_a_fetch_that_waits_is_not_overtaken_and_holds_up_nobody_else(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic)
    with leader_of(dev, topic) as connection, leader_of(dev, topic) as other:
        fetched = wire.begin_fetch(connection, topic, 0, 0, wait_ms=20_000)
        behind = wire.begin_metadata(connection, [topic])
        began = time.monotonic()
        assert wire.begin_metadata(other, [topic])()["topics"][topic]["error"] == wire.NONE
        assert not select.select([connection.socket], [], [], 0)[0], "the answer behind it came before the fetch's"
        # What it waits for ends it.
        assert wire.produce(other, topic, 0, batch.encode([b"x"])) == (wire.NONE, 0)
        assert len(batch.split(fetched()["records"])) == 1
        assert behind()["topics"][topic]["error"] == wire.NONE
        assert time.monotonic() - began < 10, "nobody waited for the fetch's time to be up"


def test_a_producer_that_outruns_the_disks_waits_and_keeps_its_order(cluster, topic):
    """librdkafka has any number of requests in flight. What comes behind a refused one would overtake it, and only an
    idempotent producer would notice: nothing is refused because the disks are slower than the client."""
    one, large = cluster({"fra": 3}), bytes(500_000)
    kafka.create_topic(one.bootstrap(), topic)
    sent = [b"%d " % number + large for number in range(OUTRUNNING)]
    offsets = kafka.send(one.bootstrap(), topic, sent, enable_idempotence=False, retry_backoff_ms=1, retry_backoff_max_ms=1)
    assert sorted(offsets) == list(range(OUTRUNNING))
    order = [int(value.split(b" ", 1)[0]) for _, value in kafka.read(one.bootstrap(), topic)]
    assert order == list(range(OUTRUNNING))
