"""`compression = "zstd"` on a link (S54): fewer bytes between datacenters, the same bytes on every disk."""

import json

import pytest

from harness import dumps, http, kafka

RECORDS = [json.dumps({"order": n, "customer": f"customer-{n % 97}", "state": "shipped", "note": "as agreed"}).encode() for n in range(20_000)]
PAYLOAD = sum(map(len, RECORDS))


def sent(one, leader):
    """Bytes from the leader's node to other datacenters, with all that QUIC adds."""
    home = one.nodes[leader].dc
    found = http.samples(one.admin(leader), "isobar_link_sent_bytes_total")
    return sum(value for labels, value in found if labels["dc"] != home)


def crossed(cluster, topic, compression, **config):
    """Bytes that left the home for two remote replicas, per byte of the records."""
    one = cluster({"fra": 1, "iad": 1, "sin": 1}, start=False)
    text = one.topology.read_text()
    one.topology.write_text(text.replace('rtt = "1ms"', f'rtt = "1ms"\ncompression = "{compression}"'))
    one.start()
    kafka.create_topic(one.bootstrap(), topic)
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    before = sent(one, 1)
    kafka.send(one.bootstrap("fra"), topic, RECORDS, linger_ms=20, **config)
    dumps.wait_same(one, topic, 1)
    assert [value for _, value in kafka.read(one.bootstrap("iad"), topic, rack="iad")] == RECORDS
    return (sent(one, 1) - before) / PAYLOAD


@pytest.mark.timeout(180)
def test_a_link_compresses_what_its_producer_has_not(cluster, topic, figure):
    plain, zstd = crossed(cluster, topic, "none"), crossed(cluster, topic, "zstd")
    figure(f"to two remote replicas, per byte of records: {plain:.2f} bytes plain, {zstd:.2f} with zstd")
    assert plain >= 2
    assert zstd <= plain / 3
    # What the producer has compressed crosses as it is.
    gzip = crossed(cluster, topic, "zstd", compression_type="gzip")
    figure(f"compressed by its producer: {gzip:.2f}")
    assert gzip <= 1
