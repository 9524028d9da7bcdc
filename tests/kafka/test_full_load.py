"""As much as the machine takes, for a while: nobody stands for election because everybody is busy (S19)."""

import threading
import time

import pytest

from conftest import LONG
from harness import http, kafka, wait, wire

SECONDS = 1800 if LONG else 20
PARTITIONS = 6
VALUE = b"x" * 1024


def elections(one):
    return sum(value for node in one.numbers() for _, value in http.samples(one.admin(node), "isobar_raft_elections_total"))


def epochs(one, topic):
    table = wire.metadata(one.kafka(1), [topic])["topics"][topic]["partitions"]
    return {number: (p["leader"], p["epoch"]) for number, p in table.items()}


@pytest.mark.alone
@pytest.mark.timeout(SECONDS + 300)
def test_full_load_elects_nobody(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    # Disks of tests are small: what is old goes.
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS, retention_bytes=64 << 20, segment_bytes=16 << 20)
    kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
    before, led = elections(one), epochs(one, topic)
    stopping, failed, acknowledged = threading.Event(), [], [0]

    def delivered(error, _):
        acknowledged[0] += error is None
        if error is not None:
            failed.append(error)

    def produce():
        producer = kafka.producer(one.bootstrap(), acks="all", linger_ms=5, batch_size=1 << 20, queue_buffering_max_messages=20_000)
        sent = 0
        while not stopping.is_set():
            try:
                producer.produce(topic, VALUE, partition=sent % PARTITIONS, on_delivery=delivered)
                sent += 1
            except BufferError:
                producer.poll(0.05)
            producer.poll(0)
        assert producer.flush(120) == 0

    loads = [threading.Thread(target=produce) for _ in range(2)]
    began = time.monotonic()
    for load in loads:
        load.start()
    try:
        wait.for_seconds(SECONDS, one.wait_ready, every=5)
    finally:
        stopping.set()
        for load in loads:
            load.join()
    seconds = time.monotonic() - began
    rate = acknowledged[0] * len(VALUE) / seconds / 1e6
    figure(f"full load for {seconds:.0f} s: {rate:.0f} MB/s acknowledged (acks=all), {elections(one) - before:.0f} elections")
    assert failed == []
    assert acknowledged[0] > SECONDS * 1000, "this was no load"
    assert elections(one) == before
    assert epochs(one, topic) == led
