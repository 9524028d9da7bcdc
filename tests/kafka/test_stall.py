"""A partition that has lost its majority costs the others nothing (S7)."""

import threading
import time

import pytest

from conftest import LONG
from harness import batch, kafka, wait, wire

PARTITIONS = 20
PRODUCES = 1000 if LONG else 300
# A node less, and its connections timing out: as good as unchanged, on a machine that does other things too.
RATIO, SLACK_MS = 2, 15


def p99_ms(address, topic, partition):
    """The best of three whiles: what else the machine does passes, a partition that is in the way does not."""
    return min(one_p99_ms(address, topic, partition) for _ in range(3))


def one_p99_ms(address, topic, partition, count=PRODUCES):
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
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS, isobar_replicas="fra=3")
    kafka.wait_in_sync(one.kafka(1), topic, PARTITIONS)
    table = wire.metadata(one.kafka(1), [topic])["topics"][topic]["partitions"]
    # Five nodes: three voters and three more have one in common, who leads what will stall.
    stalled, healthy = next(
        (a, b)
        for a, first in table.items()
        for b, second in table.items()
        if set(first["replicas"]) & set(second["replicas"]) == {first["leader"]}
    )
    shared = table[stalled]["leader"]
    frozen = [n for n in table[stalled]["replicas"] if n != shared]
    address = one.kafka(table[healthy]["leader"])
    one_p99_ms(address, topic, healthy, 100)
    before = p99_ms(address, topic, healthy)
    epoch = kafka.leader(address, topic, healthy)
    for number in frozen:
        one.stop(number)
    try:
        with Hammer(one.kafka(shared), topic, stalled) as hammer:
            wait.until("an answer of the stalled partition", lambda: hammer.answers)
            meanwhile = p99_ms(address, topic, healthy)
    finally:
        for number in frozen:
            one.cont(number)
    figure(f"p99 of acks=all: {before:.1f} ms; {meanwhile:.1f} ms beside a partition without its majority")
    assert wire.NONE not in hammer.answers
    assert kafka.leader(address, topic, healthy) == epoch
    assert meanwhile <= RATIO * before + SLACK_MS
