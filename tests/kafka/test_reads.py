"""Reads from followers and learners while leaders die (S22): what was read once stays, at its offset."""

import threading

import pytest
from confluent_kafka import TopicPartition

from conftest import LONG
from harness import batch, dumps, http, kafka, wait, wire
from harness.load import Load

KILLS = 10 if LONG else 3


class Follow:
    """A consumer of a datacenter that notes all it is given, until the block ends."""

    def __init__(self, one, dc, topic):
        self.seen = []
        self._consumer = kafka.consumer(one.bootstrap(), client_rack=dc, reconnect_backoff_max_ms=500)
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._ended.is_set():
            self.seen += [(m.offset(), m.value()) for m in self._consumer.consume(1000, 0.1) if not m.error()]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(30)
        self._consumer.close()


@pytest.mark.timeout(600)
def test_what_was_read_stays_while_leaders_die(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    witness = one.in_dc("iad")[0]
    with (
        Follow(one, "iad", topic) as iad,
        Follow(one, "sin", topic) as sin,
        Load(one.bootstrap("fra"), topic, rate=500) as load,
    ):
        for _ in range(KILLS):
            kafka.wait_in_sync(one.kafka(witness), topic, 1)
            before = len(iad.seen), len(sin.seen)
            wait.until("records in both", lambda: len(iad.seen) > before[0] + 50 and len(sin.seen) > before[1] + 50)
            leader, _ = kafka.leader(one.kafka(witness), topic)
            one.kill9(leader)
            load.wait_acknowledged(50)
            one.start(leader)
        load.wait_acknowledged(50)
        log = kafka.read(one.bootstrap(), topic)
        wait.until("the rest in both", lambda: min(len(iad.seen), len(sin.seen)) >= len(log))
    log = kafka.read(one.bootstrap(), topic)
    figure(f"{KILLS} leaders killed: {len(iad.seen)} and {len(sin.seen)} records read from learners meanwhile")
    for follow in (iad, sin):
        assert follow.seen == log[: len(follow.seen)], "each offset once, in order, and the same as in the log"
    bytes_ = sum(v for _, v in http.samples(one.admin(witness), "isobar_kafka_fetched_bytes_total", role="follower"))
    assert bytes_ >= sum(len(value) for _, value in iad.seen), "they came from iad's own replica"


@pytest.mark.timeout(300)
def test_what_only_a_learner_has_is_shown_by_nobody_and_may_go(cluster, topic):
    """The leader's last record reaches a learner and no other voter. Then the leader dies."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    kafka.send(one.bootstrap(), topic, ["kept"])
    leader, _ = kafka.leader(one.kafka(1), topic)
    others, learner = [n for n in one.in_dc("fra") if n != leader], one.in_dc("iad")[0]

    def shown():
        with wire.Connection(one.kafka(learner)) as connection:
            got = wire.fetch(connection, topic, 0, 0, wait_ms=100)
            return got["high_watermark"], len(batch.split(got["records"]))

    def log_end():
        ends = http.samples(one.admin(learner), "isobar_log_end_offset", topic=topic, partition=0)
        return max(value for _, value in ends)

    wait.until("the first record at the learner", lambda: shown() == (1, 1))
    with wire.Connection(one.kafka(leader)) as connection:
        # Dead, not frozen: a frozen one would find the record in its socket when it thaws.
        one.kill9(*others)
        assert wire.produce(connection, topic, 0, batch.encode([b"goes"]), acks=1) == (wire.NONE, 1)
    wait.until("the second record on the learner's disk", lambda: log_end() == 2)
    assert shown() == (1, 1)
    one.kill9(leader)
    one.start(*others)
    kafka.wait_other_leader([one.kafka(learner)], topic, 0, leader)
    assert kafka.send(one.bootstrap(), topic, ["stays"]) == [1]
    wait.until("what stays, at the learner", lambda: shown() == (2, 2))
    assert kafka.read(one.bootstrap(), topic, rack="iad") == [(0, b"kept"), (1, b"stays")]
    one.start(leader)
    dumps.wait_same(one, topic, 1)
