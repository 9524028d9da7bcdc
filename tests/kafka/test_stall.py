"""A partition that has lost its majority costs the others nothing (S7)."""

import threading
import time

import pytest

from conftest import LONG
from harness import batch, kafka, wait, wire

PRODUCES = 5000 if LONG else 1000
# A node less, and its connections timing out: as good as unchanged, on a machine that does other things too.
RATIO, SLACK_MS = 2, 15


def p99_ms(address, topic, partition, count=PRODUCES):
    """Of produces with acks=all, one at a time."""
    data, took = batch.encode([b"x" * 100]), []
    with wire.Connection(address) as connection:
        for _ in range(count):
            began = time.perf_counter()
            assert wire.produce(connection, topic, partition, data)[0] == wire.NONE
            took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[int(count * 0.99)]


class Hammer:
    """Produces to a partition that cannot acknowledge, over and over, in a thread."""

    def __init__(self, address, topic, partition):
        self.answers = []
        self._at, self._ended = (address, topic, partition), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        address, topic, partition = self._at
        with wire.Connection(address) as connection:
            while not self._ended.wait(0.01):
                answer = wire.produce(connection, topic, partition, batch.encode([b"y" * 100]), timeout_ms=500)
                self.answers.append(answer[0])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(30)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_stalled_partition_does_not_slow_down_the_others(cluster, topic, figure):
    """Two of its three voters are frozen; another partition shares the third one's node, loop and disk."""
    # The DCs beside it keep the majority of `__meta`, without which a home is fenced.
    one = cluster({"fra": 5, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), f"{topic}-stalls", isobar_replicas="fra=3")
    kafka.create_topic(one.bootstrap(), topic, 5, isobar_replicas="fra=5")
    partitions = lambda topic: wire.metadata(one.kafka(1), [topic])["topics"][topic]["partitions"]
    kafka.wait_in_sync(one.kafka(1), topic, 5)
    kafka.wait_in_sync(one.kafka(1), f"{topic}-stalls", 1)
    (stalls,) = partitions(f"{topic}-stalls").values()
    # Led by the same node, whose acknowledgement it needs: of its five voters two freeze.
    shared = stalls["leader"]
    healthy = next(number for number, p in partitions(topic).items() if p["leader"] == shared)
    frozen = [n for n in stalls["replicas"] if n != shared]
    address = one.kafka(shared)
    p99_ms(address, topic, healthy, 100)
    before = p99_ms(address, topic, healthy)
    epoch = kafka.leader(address, topic, healthy)
    for number in frozen:
        one.stop(number)
    try:
        with Hammer(address, f"{topic}-stalls", 0) as hammer:
            # From the freeze on, when its leader still has what it cannot acknowledge, to well after it stepped down.
            meanwhile = p99_ms(address, topic, healthy)
            wait.until("an answer of the stalled partition", lambda: hammer.answers)
    finally:
        for number in frozen:
            one.cont(number)
    figure(f"p99 of acks=all: {before:.1f} ms; {meanwhile:.1f} ms beside a partition without its majority")
    assert wire.NONE not in hammer.answers
    assert kafka.leader(address, topic, healthy) == epoch
    assert meanwhile <= RATIO * before + SLACK_MS
