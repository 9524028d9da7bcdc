"""Idempotent producers (KIP-98): a retry is the same record, and a gap is refused."""

import pytest

from harness import batch, dumps, kafka, wait, wire
from harness.wire import NONE, OUT_OF_ORDER_SEQUENCE_NUMBER


@pytest.fixture
def leader(broker, topic):
    kafka.create_topic(broker.bootstrap(), topic)
    node, _ = kafka.leader(broker.kafka(1), topic)
    with wire.Connection(wire.metadata(broker.kafka(1))["brokers"][node]["address"]) as connection:
        yield connection


def begin(connection):
    error, producer, epoch = wire.init_producer_id(connection)
    assert (error, epoch) == (NONE, 0)
    return lambda sequence, *values: batch.encode(values, (producer, epoch, sequence))


def test_producer_ids_are_given_once(leader):
    ids = [wire.init_producer_id(leader)[1] for _ in range(20)]
    assert len(set(ids)) == len(ids)


def test_each_of_the_last_five_batches_may_be_retried(leader, topic):
    make = begin(leader)
    batches = [make(n * 2, b"a", b"b") for n in range(6)]
    assert [wire.produce(leader, topic, 0, data) for data in batches] == [(NONE, n * 2) for n in range(6)]
    for n in range(1, 6):
        assert wire.produce(leader, topic, 0, batches[n]) == (NONE, n * 2), n
    assert wire.list_offset(leader, topic, 0, -1)[2] == 12


def test_a_gap_in_the_sequence_is_refused(leader, topic):
    make = begin(leader)
    assert wire.produce(leader, topic, 0, make(0, b"a")) == (NONE, 0)
    assert wire.produce(leader, topic, 0, make(2, b"c"))[0] == OUT_OF_ORDER_SEQUENCE_NUMBER
    assert wire.produce(leader, topic, 0, make(1, b"b")) == (NONE, 1)
    assert wire.list_offset(leader, topic, 0, -1)[2] == 2


def test_an_older_epoch_of_a_producer_is_fenced(leader, topic):
    _, producer, _ = wire.init_producer_id(leader)
    assert wire.produce(leader, topic, 0, batch.encode([b"new"], (producer, 1, 0))) == (NONE, 0)
    error, _ = wire.produce(leader, topic, 0, batch.encode([b"old"], (producer, 0, 0)))
    assert error == 47
    assert wire.list_offset(leader, topic, 0, -1)[2] == 1


def test_a_retry_is_known_to_the_next_leader(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    dead, _ = kafka.leader(one.kafka(4), topic)
    with wire.Connection(one.kafka(dead)) as connection:
        make = begin(connection)
        batches = [make(n, b"x") for n in range(3)]
        assert [wire.produce(connection, topic, 0, data) for data in batches] == [(NONE, n) for n in range(3)]
    one.kill9(dead)
    heir = kafka.wait_other_leader([one.kafka(4)], topic, 0, dead)
    with wire.Connection(one.kafka(heir)) as connection:
        assert [wire.produce(connection, topic, 0, data) for data in batches] == [(NONE, n) for n in range(3)]
        assert wire.produce(connection, topic, 0, make(3, b"y")) == (NONE, 3)
        assert wire.list_offset(connection, topic, 0, -1)[2] == 4


@pytest.mark.parametrize("big_batches", [0, 8], ids=["from its batches", "from what a segment begins with"])
def test_a_retry_is_known_after_every_node_was_killed(big_batches, cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, segment_bytes=1 << 20)
    leads = lambda: wire.Connection(one.kafka(kafka.leader(one.kafka(4), topic)[0]))
    with leads() as connection:
        make = begin(connection)
        batches = [make(n * 2, b"a", b"b") for n in range(3)]
        assert [wire.produce(connection, topic, 0, data) for data in batches] == [(NONE, n * 2) for n in range(3)]
        # Others go on, and a restart does not read as far back as these any more.
        for n in range(big_batches):
            assert wire.produce(connection, topic, 0, batch.encode([b"z" * (400 << 10)])) == (NONE, 6 + n)
    begun = lambda: [len(dumps.segments(one, node, topic)) for node in one.in_dc("fra")]
    wait.until(lambda: f"segments begun: {begun()}", lambda: min(begun()) > big_batches // 3)
    dumps.wait_same(one, topic, 1)
    one.kill9(*one.numbers())
    one.start()
    kafka.wait_led(one.bootstrap(), topic, 1)
    end = 6 + big_batches
    with leads() as connection:
        assert wire.produce(connection, topic, 0, batches[-1]) == (NONE, 4)
        assert wire.produce(connection, topic, 0, make(8, b"too far"))[0] == OUT_OF_ORDER_SEQUENCE_NUMBER
        assert wire.produce(connection, topic, 0, make(6, b"next")) == (NONE, end)
        assert wire.list_offset(connection, topic, 0, -1)[2] == end + 1


def test_a_home_that_is_cut_off_from_meta_takes_new_producers(own_dev, topic):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, isobar_on_isolation="continue")
    leader, _ = kafka.leader(dev.kafka(1), topic)
    for dc in ("iad", "sin"):
        dev.cli().link_cut("fra", dc)
    # Nothing is decided here any more.
    wait.until(
        "__meta led elsewhere",
        lambda: dev.cli(4).json("cluster", "status")["controller"] not in (None, *dev.nodes("fra")),
        60,
    )
    assert kafka.send(dev.bootstrap(), topic, ["new"], enable_idempotence=True) == [0]
    with wire.Connection(dev.kafka(leader)) as connection:
        make = begin(connection)
        assert wire.produce(connection, topic, 0, make(0, b"newer")) == (NONE, 1)
        ids = {wire.init_producer_id(connection)[1] for _ in range(500)}
        assert len(ids) == 500
