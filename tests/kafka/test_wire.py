"""Frames that no client sends: whatever a socket brings, its connection ends or is answered, and
the process and everybody else's connections stay as they were."""

import contextlib
import struct
import time

import pytest

from harness import batch, http, kafka, wait, wire
from harness.wire import Connection, frame, header


@pytest.fixture
def unharmed(broker, topic):
    """After the check: the process lives, and serves on a connection that was open all along."""
    address = broker.kafka(1)
    with Connection(address) as bystander:
        before = wire.api_versions(bystander)
        yield address
        assert wire.api_versions(bystander) == before
    if hasattr(broker, "process"):
        broker.process.assert_alive()
        assert http.status(broker.admin(1), "/healthz") == 200


def test_api_versions_too_high_is_answered_in_version_0(unharmed):
    with Connection(unharmed) as connection:
        for version in (5, 99, 32767):
            # Flexible header: a tag section follows the client id.
            connection.send(frame(header(wire.API_VERSIONS, version, 7) + b"\0" + b"\2x\2y\0"))
            reader = wire.Reader(connection.receive())
            assert reader.int("i") == 7
            assert reader.int("h") == wire.UNSUPPORTED_VERSION
            apis = {reader.int("h"): (reader.int("h"), reader.int("h")) for _ in range(reader.int("i"))}
            assert wire.API_VERSIONS in apis
        # The connection stays: the client asks again in a version that is served.
        assert wire.API_VERSIONS in wire.api_versions(connection)


def test_produce_is_advertised_from_0(unharmed):
    """librdkafka before 2.11.1 sends uncompressed batches otherwise (apache/kafka#18727)."""
    with Connection(unharmed) as connection:
        assert wire.api_versions(connection)[wire.PRODUCE][0] == 0


def test_the_versions_that_clients_need_are_advertised(unharmed):
    """The highest floor and the lowest ceiling with which every client still finds a version."""
    needed = {
        0: (0, 7), 1: (4, 11), 2: (1, 3), 3: (4, 8), 8: (2, 7), 9: (1, 5), 10: (0, 2), 11: (2, 5),
        12: (0, 3), 13: (0, 3), 14: (0, 3), 18: (0, 3), 19: (2, 4), 20: (1, 4), 21: (1, 2),
        22: (0, 1), 23: (2, 3), 32: (1, 1), 33: (1, 1), 37: (1, 2), 44: (0, 0), 60: (0, 0),
    }  # fmt: skip
    with Connection(unharmed) as connection:
        have = wire.api_versions(connection)
    wrong = {
        api: have.get(api)
        for api, (floor, ceiling) in needed.items()
        if api not in have or have[api][0] > floor or have[api][1] < ceiling
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("api", "version"),
    [(9999, 0), (-1, 0), (wire.METADATA, 99), (wire.METADATA, -1), (wire.FETCH, 3), (7, 0), (6, 0)],
)
def test_an_api_or_version_that_is_not_served_closes_the_connection(api, version, unharmed):
    with Connection(unharmed) as connection:
        connection.send(frame(header(api, version, 1) + bytes(16)))
        assert connection.is_closed()


HOSTILE = {
    "a negative length": struct.pack(">i", -1) + bytes(64),
    "the largest length": struct.pack(">i", 2**31 - 1) + bytes(64),
    "more than a request may have": struct.pack(">i", 101 * 1024 * 1024) + bytes(64),
    "an empty frame": struct.pack(">i", 0),
    "a frame shorter than a header": frame(b"\0\0\0"),
    "garbage": b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c2010000be0303") + bytes(64),
    # kafka-protocol 0.18 asks for 206 GB and aborts.
    "12 bytes that claim an array of 2^31-1": frame(struct.pack(">hhi", 3, 1, 1) + b"\x7f\xff\xff\xff"),
    "a Produce with no end of topics": frame(header(0, 3, 1, None) + b"\xff\xff" + b"\0\1" + bytes(4) + b"\x7f\xff\xff\xff"),
    "a compact array of 2^32": frame(header(3, 12, 1) + b"\0" + b"\xff\xff\xff\xff\x0f"),
    "a varint without an end": frame(header(3, 12, 1) + b"\0" + b"\xff" * 32),
    "a negative string length": frame(struct.pack(">hhih", 3, 5, 1, -2)),
    "a string longer than its frame": frame(struct.pack(">hhih", 3, 5, 1, 32767)),
    "a client id that is not UTF-8": frame(struct.pack(">hhih", 3, 5, 1, 4) + b"\xff\xfe\xfd\xfc" + bytes(5)),
    "a million tagged fields": frame(header(3, 12, 1) + b"\xc0\x84\x3d" + bytes(8)),
    "an array of records longer than the frame": frame(
        header(0, 7, 1) + wire.string(None) + struct.pack(">hi", -1, 1000)
        + wire.array([wire.string("t") + wire.array([struct.pack(">ii", 0, 2**31 - 1)])])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_frame_ends_its_connection_only(name, unharmed):
    with Connection(unharmed) as connection:
        connection.send(HOSTILE[name])
        connection.end_input()
        # What can be read in spite of itself may be answered; then it is our end that closes.
        assert connection.is_closed(answers=1)


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_arrive(unharmed):
    with Connection(unharmed) as connection:
        connection.send(struct.pack(">i", 2**31 - 1))
        assert connection.is_closed()


def test_a_thousand_hostile_connections_leave_no_memory_behind(broker, unharmed):
    if not hasattr(broker, "process"):
        pytest.skip("measures the process that this suite started")
    before = broker.process.resident_bytes()
    for _ in range(1000):
        with Connection(unharmed) as connection:
            connection.send(struct.pack(">i", 100 * 1024 * 1024) + bytes(32))
    grown = broker.process.resident_bytes() - before
    assert grown < 64 << 20, f"{grown >> 20} MiB more after frames of which nothing came"


def test_half_a_frame_holds_up_nobody(broker, unharmed, topic):
    kafka.create_topic(broker.bootstrap(), topic)
    whole = frame(header(wire.METADATA, 5, 3) + struct.pack(">i", -1) + b"\0")
    with Connection(unharmed) as slow:
        slow.send(whole[:9])
        assert kafka.send(broker.bootstrap(), topic, ["x"]) == [0]
        slow.send(whole[9:])
        assert wire.Reader(slow.receive()).int("i") == 3


def test_clients_that_send_byte_by_byte_hold_up_nobody(broker, unharmed, topic):
    """And are answered themselves, when all is there."""
    kafka.create_topic(broker.bootstrap(), topic)
    leader, _ = kafka.leader(unharmed, topic)
    address = wire.metadata(unharmed)["brokers"][leader]["address"]
    whole = frame(header(wire.METADATA, 5, 3) + struct.pack(">i", -1) + b"\0")
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(Connection(address)) for _ in range(50)]
        quick = stack.enter_context(Connection(address))
        for n in range(len(whole)):
            began = time.monotonic()
            for connection in slow:
                connection.send(whole[n : n + 1])
            # The next byte comes when somebody else was served.
            assert wire.produce(quick, topic, 0, batch.encode([b"x"])) == (wire.NONE, n)
            assert time.monotonic() - began < 2
        assert [wire.Reader(connection.receive()).int("i") for connection in slow] == [3] * len(slow)


def test_answers_come_in_the_order_of_the_requests(broker, unharmed, topic):
    """A fetch that waits must not be overtaken on its own connection, nor hold up another."""
    kafka.create_topic(broker.bootstrap(), topic)
    with Connection(unharmed) as connection:
        for correlation in range(200):
            connection.send(frame(header(wire.API_VERSIONS, 0, correlation)))
        for correlation in range(200):
            assert wire.Reader(connection.receive()).int("i") == correlation


def test_a_batch_whose_bytes_are_damaged_is_not_appended(broker, unharmed, topic):
    kafka.create_topic(broker.bootstrap(), topic)
    leader, _ = kafka.leader(unharmed, topic)
    address = wire.metadata(unharmed)["brokers"][leader]["address"]
    good = batch.encode([b"a", b"b"])
    damaged = {
        "a wrong CRC": batch.encode([b"a"], crc=1),
        "a flipped bit": good[:-1] + bytes([good[-1] ^ 1]),
        "a batch length beyond the bytes": good[:8] + struct.pack(">i", 1 << 20) + good[12:],
        "a batch length that is negative": good[:8] + struct.pack(">i", -5) + good[12:],
        "magic 1": good[:16] + b"\1" + good[17:],
        "more records than offsets": batch.encode([b"a", b"b"], count=5),
        "fewer bytes than a header": good[:40],
    }
    refused = {}
    for name, data in damaged.items():
        with Connection(address) as connection:
            try:
                refused[name] = wire.produce(connection, topic, 0, data)[0] != wire.NONE
            except AssertionError:
                refused[name] = connection.is_closed()
    assert refused == dict.fromkeys(damaged, True)
    with Connection(address) as connection:
        assert wire.produce(connection, topic, 0, good) == (wire.NONE, 0)


def test_acks_that_do_not_exist_are_refused(broker, unharmed, topic):
    kafka.create_topic(broker.bootstrap(), topic)
    leader, _ = kafka.leader(unharmed, topic)
    address = wire.metadata(unharmed)["brokers"][leader]["address"]
    with Connection(address) as connection:
        assert wire.produce(connection, topic, 0, batch.encode([b"a"]), acks=2)[0] == 21
        assert wire.produce(connection, topic, 0, batch.encode([b"a"]), acks=1) == (wire.NONE, 0)


def test_a_node_that_does_not_lead_says_so(broker, topic):
    """Or it hands the request on and answers for the leader: then it was appended once."""
    if not hasattr(broker, "process"):
        pytest.skip("needs several nodes")
    kafka.create_topic(broker.bootstrap(), topic)
    leader, _ = kafka.leader(broker.kafka(1), topic)
    other = next(node for node in broker.nodes("fra") if node != leader)
    with Connection(broker.kafka(other)) as connection:
        error, offset = wire.produce(connection, topic, 0, batch.encode([b"a"]))
    assert (error, offset) in [(wire.NOT_LEADER_OR_FOLLOWER, -1), (wire.NONE, 0)]
    assert kafka.end_offset(broker.bootstrap(), topic) == (1 if error == wire.NONE else 0)
    with Connection(broker.kafka(1)) as connection:
        error, _ = wire.produce(connection, "no-such-topic-anywhere", 0, batch.encode([b"a"]))
    assert error == wire.UNKNOWN_TOPIC_OR_PARTITION


def test_garbage_on_the_admin_port_is_refused(broker):
    if not hasattr(broker, "process"):
        pytest.skip("needs Isobar's admin port")
    for data in (b"\0" * 512, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 99):
        with Connection(broker.admin(1)) as connection:
            connection.send(data)
            connection.end_input()
            while connection.socket.recv(65536):
                pass
    assert http.status(broker.admin(1), "/healthz") == 200


def test_a_produce_that_asks_for_no_answer_gets_none_and_is_counted(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic)
    leader, _ = kafka.leader(dev.kafka(1), topic)
    counted = lambda: sum(value for _, value in http.samples(dev.admin(leader), "isobar_kafka_acks_none_total"))
    before = counted()
    with Connection(dev.kafka(leader)) as connection:
        for n in range(3):
            wire.begin_produce(connection, topic, 0, batch.encode([b"%d" % n]), acks=0)
        # The next answer is the one to the next request.
        assert wire.API_VERSIONS in wire.api_versions(connection)
        wait.until("the records", lambda: wire.list_offset(connection, topic, 0, -1)[2] == 3)
    assert [value for _, value in kafka.read(dev.bootstrap(), topic)] == [b"0", b"1", b"2"]
    assert counted() == before + 3


def test_a_produce_that_asks_for_no_answer_and_fails_closes_the_connection(dev, topic):
    """There is no other way to say so, and the client looks for the leader anew."""
    kafka.create_topic(dev.bootstrap(), topic)
    leader, _ = kafka.leader(dev.kafka(1), topic)
    other = next(node for node in dev.nodes("iad"))
    assert other != leader
    with Connection(dev.kafka(other)) as connection:
        wire.begin_produce(connection, topic, 0, batch.encode([b"x"]), acks=0)
        assert connection.is_closed()
