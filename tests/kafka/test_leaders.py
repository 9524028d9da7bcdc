"""Whom Metadata names as leader, and who takes produces: the same, but for a moment after a failover (S24)."""

import threading
import time

import pytest

from harness import batch, kafka, wait, wire

KILLS = 4
# A follower asks a leader that it names whether it is there, for 100 ms in the DC; across a WAN for longer.
STALE_SECONDS = 1.0


class Watch:
    """Asks every node the same question over and over, each in a thread: `said` is `(when, node, answer)`."""

    def __init__(self, one, ask):
        self.said, self.trouble, self._ask, self._one = [], [], ask, one
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in one.numbers()]

    def _run(self, node):
        while not self._ended.wait(0.02):
            try:
                with wire.Connection(self._one.kafka(node)) as connection:
                    while not self._ended.wait(0.02):
                        # What was known when it was asked: an answer that is held back is not stale.
                        answer = self._ask(connection)
                        self.said.append((time.monotonic(), node, answer))
            except (OSError, wire.Closed):
                continue
            except AssertionError as error:
                self.trouble.append(f"node {node}: {error}")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join(30)


@pytest.mark.timeout(300)
def test_who_is_named_takes_produces(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    data = batch.encode([b"x"])

    def named(connection):
        partition = wire.begin_metadata(connection, [topic])()["topics"][topic]["partitions"].get(0)
        assert partition, "the topic is there"
        return partition["leader"], partition["epoch"]

    def takes(connection):
        return wire.produce(connection, topic, 0, data, timeout_ms=1000)[0] == wire.NONE

    with Watch(one, named) as names, Watch(one, takes) as produces:
        for _ in range(KILLS):
            kafka.wait_in_sync(one.kafka(4), topic, 1)
            taken = len(produces.said)
            wait.until("produces to be taken", lambda taken=taken: any(took for _, _, took in produces.said[taken:]))
            leader, _ = kafka.leader(one.kafka(4), topic)
            one.kill9(leader)
            kafka.wait_other_leader([one.kafka(4)], topic, 0, leader)
            one.start(leader)
    assert names.trouble == [] == produces.trouble
    took = {node: sorted(when for when, by, did in produces.said if by == node and did) for node in one.numbers()}
    answers = sorted((when, node, *answer) for when, node, answer in names.said)
    stale = 0.0
    for when, node, leader, _ in answers:
        if leader < 0:
            continue
        around = [abs(when - at) for at in took[leader]]
        assert around, f"node {node} named {leader}, which never took anything"
        stale = max(stale, min(around))
    figure(f"{len(answers)} answers of {len(one.numbers())} nodes over {KILLS} kills: the leader named took a produce at most {stale:.2f} s away")
    for node in one.numbers():
        epochs = [epoch for _, by, leader, epoch in answers if by == node and leader >= 0]
        assert len(epochs) > 20, f"node {node} told little: {len(epochs)} answers"
        assert epochs == sorted(epochs), f"node {node} went back to an older leader"
    assert stale <= STALE_SECONDS
