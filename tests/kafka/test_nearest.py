"""Nearest-replica reads (KIP-392): `client.rack` names a DC, and the bytes come from there."""

import json

import pytest
from confluent_kafka import TopicPartition

from harness import http, kafka, records, wait, wire

COUNT = 20_000


def wan_bytes(dev, dc):
    """That have come into a datacenter."""
    return sum(value for _, value in http.samples(dev.admin(dev.nodes(dc)[0]), "isobar_wan_bytes_total", to=dc))


@pytest.mark.parametrize("dc", ["iad", "sin"])
def test_a_consumer_is_served_by_its_own_datacenter(dc, dev, topic):
    topic = f"{topic}-{dc}"
    kafka.create_topic(dev.bootstrap(), topic)
    kafka.send(dev.bootstrap(), topic, [records.line(n) for n in range(COUNT)], linger_ms=20)
    received, found = {}, []

    def statistics(text):
        for broker in json.loads(text)["brokers"].values():
            if broker["nodeid"] > 0:
                received[broker["nodeid"]] = broker["rxbytes"]

    before = wan_bytes(dev, dc)
    consumer = kafka.consumer(
        dev.bootstrap(dc), client_rack=dc, stats_cb=statistics, statistics_interval_ms=200, metadata_max_age_ms=60_000
    )
    consumer.assign([TopicPartition(topic, 0, 0)])

    def complete():
        found.extend(m.value().decode() for m in consumer.consume(5000, timeout=0.2) if not m.error())
        return len(found) >= COUNT

    wait.until(lambda: f"{COUNT} records, have {len(found)}", complete, 60, 0)
    payload = sum(map(len, found))
    wait.until("statistics of the whole", lambda: consumer.poll(0.1) or sum(received.values()) >= payload, 10, 0)
    consumer.close()
    assert [records.number(value) for value in found] == list(range(COUNT))
    near = sum(count for node, count in received.items() if dev.dc_of(node) == dc)
    far = sum(received.values()) - near
    assert near >= payload, received
    # The replica has it already: nobody fetches it anew over the WAN (S53).
    assert wan_bytes(dev, dc) - before < payload / 2
    # Metadata and the leader's answers that name the nearest replica; no records.
    assert far < payload / 10, f"{far} of {payload} bytes came from elsewhere: {received}"


def test_the_leader_names_the_replica_of_the_rack(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic)
    kafka.send(dev.bootstrap(), topic, ["x"])
    leader, _ = kafka.leader(dev.kafka(1), topic)
    with wire.Connection(dev.kafka(leader)) as connection:

        def preferred(rack):
            return wire.fetch(connection, topic, 0, 0, rack=rack)["preferred"]

        wait.until("a replica in iad", lambda: preferred("iad") in dev.nodes("iad"))
        wait.until("a replica in sin", lambda: preferred("sin") in dev.nodes("sin"))
        assert preferred("") == -1
        assert preferred("moon") == -1
        # Served by the leader itself where the client is at home.
        assert preferred("fra") in [-1, *dev.nodes("fra")]


def test_a_learner_shows_nothing_beyond_the_high_watermark(dev, topic):
    """A fetch at the end of a learner waits instead of failing (KIP-392), and brings what comes."""
    kafka.create_topic(dev.bootstrap(), topic)
    kafka.send(dev.bootstrap(), topic, ["a"])
    with wire.Connection(dev.kafka(5)) as learner:

        def first():
            got = wire.fetch(learner, topic, 0, 0, rack="iad")
            return got["error"] == wire.NONE and got["records"]

        wait.until("the record at the learner", first)
        got = wire.fetch(learner, topic, 0, 1, wait_ms=100, rack="iad")
        assert (got["error"], got["high_watermark"], got["records"]) == (wire.NONE, 1, b"")
        assert wire.fetch(learner, topic, 0, 5, wait_ms=100)["error"] != wire.OFFSET_OUT_OF_RANGE
