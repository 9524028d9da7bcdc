"""Where things are: offsets by time, ends and starts, epochs."""

import threading

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from harness import batch, kafka, wire

EARLIEST, LATEST, MAX_TIMESTAMP = -2, -1, -3
T0 = 1_700_000_000_000


def write(broker, topic):
    """Three batches of three records each, ten seconds apart; the connection to their leader."""
    kafka.create_topic(broker.bootstrap(), topic)
    leader, _ = kafka.leader(broker.kafka(1), topic)
    address = wire.metadata(broker.kafka(1))["brokers"][leader]["address"]
    connection = wire.Connection(address)
    for n in range(3):
        data = batch.encode([b"a", b"b", b"c"], timestamp=T0 + n * 10_000)
        assert wire.produce(connection, topic, 0, data) == (wire.NONE, n * 3)
    return connection


def test_offsets_are_found_by_time(broker, topic):
    with write(broker, topic) as connection:
        for asked, expected in {
            0: 0, T0: 0, T0 + 1: 3, T0 + 10_000: 3, T0 + 10_001: 6, T0 + 20_000: 6,
        }.items():  # fmt: skip
            error, timestamp, offset = wire.list_offset(connection, topic, 0, asked)
            assert (error, offset) == (wire.NONE, expected), asked
            assert timestamp == T0 + expected // 3 * 10_000
        assert wire.list_offset(connection, topic, 0, T0 + 20_001) == (wire.NONE, -1, -1)


def test_both_ends_are_known(broker, topic):
    with write(broker, topic) as connection:
        assert wire.list_offset(connection, topic, 0, EARLIEST)[2] == 0
        assert wire.list_offset(connection, topic, 0, LATEST)[2] == 9
        assert wire.list_offset(connection, topic, 7, LATEST)[0] == wire.UNKNOWN_TOPIC_OR_PARTITION
    admin = kafka.admin(broker.bootstrap())
    newest = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.max_timestamp()})
    assert [f.result(30).timestamp for f in newest.values()] == [T0 + 20_000]


def test_a_fetch_gets_whole_batches_with_placed_headers(broker, topic):
    with write(broker, topic) as connection:
        _, epoch = kafka.leader(broker.kafka(1), topic)
        got = wire.fetch(connection, topic, 0, 4)
        assert (got["error"], got["high_watermark"], got["log_start"]) == (wire.NONE, 9, 0)
        batches = batch.split(got["records"])
        assert [(base, last) for base, last, _ in batches] == [(3, 5), (6, 8)]
        for _, _, data in batches:
            assert int.from_bytes(data[12:16], "big") == epoch
            assert batch.crc32c(data[21:]) == int.from_bytes(data[17:21], "big")
        # KIP-74: the first batch comes whole however small the limit.
        assert len(batch.split(wire.fetch(connection, topic, 0, 0, max_bytes=1)["records"])) == 1
        assert wire.fetch(connection, topic, 0, 10)["error"] == wire.OFFSET_OUT_OF_RANGE
        assert wire.fetch(connection, topic, 0, 9, wait_ms=50)["records"] == b""


def test_a_fetch_waits_for_what_is_not_there_yet(broker, topic):
    kafka.create_topic(broker.bootstrap(), topic)
    leader, _ = kafka.leader(broker.kafka(1), topic)
    address = wire.metadata(broker.kafka(1))["brokers"][leader]["address"]
    with wire.Connection(address) as reader, wire.Connection(address) as writer:
        answers = []
        waiting = threading.Thread(
            target=lambda: answers.append(wire.fetch(reader, topic, 0, 0, wait_ms=20_000))
        )
        waiting.start()
        assert wire.produce(writer, topic, 0, batch.encode([b"x"])) == (wire.NONE, 0)
        waiting.join(10)
        assert answers and len(batch.split(answers[0]["records"])) == 1
