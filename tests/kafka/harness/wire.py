"""Kafka frames by hand, in the non-flexible versions: what no client library would send."""

import contextlib
import socket
import struct

# As whom one asks any replica, whether it leads or not.
DEBUGGING_REPLICA = -2

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 22
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 8, 9, 10
CREATE_TOPICS, DELETE_TOPICS, ALTER_CONFIGS = 19, 20, 33

NONE = 0
OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
NOT_LEADER_OR_FOLLOWER = 6
REQUEST_TIMED_OUT = 7
MESSAGE_TOO_LARGE = 10
NOT_ENOUGH_REPLICAS = 19
NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
UNSUPPORTED_VERSION = 35
INVALID_CONFIG = 40
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
FETCH_SESSION_ID_NOT_FOUND = 70
INVALID_FETCH_SESSION_EPOCH = 71
OFFSET_NOT_AVAILABLE = 78
INVALID_RECORD = 87


def string(text):
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def header(api, version, correlation, client="raw"):
    return struct.pack(">hhi", api, version, correlation) + string(client)


def frame(body):
    return struct.pack(">i", len(body)) + body


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "the answer is shorter than its fields"
        self.at += count
        return self.data[self.at - count : self.at]

    def int(self, code):
        return struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]

    def string(self):
        length = self.int("h")
        return None if length < 0 else self.take(length).decode()

    def bytes(self):
        length = self.int("i")
        return b"" if length < 0 else self.take(length)

    def array(self, read):
        return [read() for _ in range(max(0, self.int("i")))]


class Closed(AssertionError):
    """Instead of an answer."""


class Connection:
    """One TCP connection to `host:port`."""

    def __init__(self, address, seconds=30):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def end_input(self):
        """No more bytes from here; the other side may have closed before."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def receive(self):
        """The next frame; None where the other side closed instead."""
        try:
            size = self._read(4)
            return size and self._read(struct.unpack(">i", size)[0])
        except ConnectionResetError:
            return None

    def _read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                return None
            data += part
        return data

    def is_closed(self, seconds=10, answers=0):
        """Waits until the other side has closed, after at most so many answers."""
        self.socket.settimeout(seconds)
        try:
            return any(self.receive() is None for _ in range(answers + 1))
        except TimeoutError:
            return False

    def ask(self, api, version, body):
        """Sends one request and returns a Reader behind the answer's header."""
        return self.begin(api, version, body)()

    def begin(self, api, version, body):
        """Sends one request; what is returned waits for the answer, as `ask` does."""
        self._correlation += 1
        correlation = self._correlation
        self.send(frame(header(api, version, correlation) + body))

        def answer():
            received = self.receive()
            if received is None:
                raise Closed(f"closed instead of an answer to API {api} v{version}")
            reader = Reader(received)
            assert reader.int("i") == correlation, "an answer to another request"
            return reader

        return answer


def api_versions(connection):
    """`{api: (min, max)}`"""
    reader = connection.ask(API_VERSIONS, 0, b"")
    assert reader.int("h") == NONE
    return {reader.int("h"): (reader.int("h"), reader.int("h")) for _ in range(reader.int("i"))}


def metadata(address, topics=None):
    """Metadata v8: brokers, controller and, for each topic, its partitions."""
    with Connection(address) as connection:
        return begin_metadata(connection, topics)()


def begin_metadata(connection, topics=None):
    """Asks as `metadata` does; what is returned waits for the answer."""
    wanted = struct.pack(">i", -1) if topics is None else array([string(t) for t in topics])
    answer = connection.begin(METADATA, 8, wanted + b"\0\0\0")
    return lambda: _metadata(answer())


def _metadata(r):
    r.int("i")
    brokers = {}
    for _ in range(r.int("i")):
        node, host, port, rack = r.int("i"), r.string(), r.int("i"), r.string()
        brokers[node] = {"address": f"{host}:{port}", "rack": rack}
    cluster, controller = r.string(), r.int("i")

    def partition():
        error, number, leader, epoch = r.int("h"), r.int("i"), r.int("i"), r.int("i")
        ints = lambda: r.array(lambda: r.int("i"))
        found = {"error": error, "leader": leader, "epoch": epoch}
        return number, found | {"replicas": ints(), "isr": ints(), "offline": ints()}

    def topic():
        error, name, internal = r.int("h"), r.string(), r.int("b")
        partitions = dict(r.array(partition))
        r.int("i")
        return name, {"error": error, "internal": bool(internal), "partitions": partitions}

    return {"brokers": brokers, "cluster": cluster, "controller": controller, "topics": dict(r.array(topic))}


def begin_create(connection, topic, wait_ms=10_000):
    """Sends CreateTopics of one partition; what is returned waits for the error code."""
    made = string(topic) + struct.pack(">ih", 1, -1) + array([]) + array([])
    answer = connection.begin(CREATE_TOPICS, 4, array([made]) + struct.pack(">i?", wait_ms, False))
    return lambda: _code_of_one(answer())


def begin_delete(connection, topic, wait_ms=10_000):
    """Sends DeleteTopics; what is returned waits for the error code."""
    answer = connection.begin(DELETE_TOPICS, 1, array([string(topic)]) + struct.pack(">i", wait_ms))
    return lambda: _code_of_one(answer())


def _code_of_one(r):
    r.int("i")

    def code():
        r.string()
        return r.int("h")

    (found,) = r.array(code)
    return found


def produce(connection, topic, partition, batches, acks=-1, timeout_ms=10_000, version=7):
    """Produce v3 to v8 of one partition; `(error, base offset)`."""
    return begin_produce(connection, topic, partition, batches, acks, timeout_ms, version)()


def begin_produce(connection, topic, partition, batches, acks=-1, timeout_ms=10_000, version=7):
    """Sends as `produce` does; what is returned waits for the answer."""
    answer = _produce(connection, topic, partition, batches, acks, timeout_ms, version)

    def produced():
        r = answer()
        return r.int("h"), r.int("q")

    return produced


def produce_paused(connection, topic, partition, batches, timeout_ms=10_000):
    """Produce v7 of one partition; `(error, base offset, milliseconds to pause)`."""
    r = _produce(connection, topic, partition, batches, -1, timeout_ms, 7)()
    error, base = r.int("h"), r.int("q")
    r.int("q"), r.int("q")
    return error, base, r.int("i")


def _produce(connection, topic, partition, batches, acks, timeout_ms, version):
    """What is returned waits for the answer, and gives it from the partition's error on."""
    data = struct.pack(">ii", partition, len(batches)) + batches
    topics = array([string(topic) + array([data])])
    answer = connection.begin(PRODUCE, version, string(None) + struct.pack(">hi", acks, timeout_ms) + topics)

    def produced():
        r = answer()
        assert (r.int("i"), r.string(), r.int("i")) == (1, topic, 1)
        assert r.int("i") == partition
        return r

    return produced


def init_producer_id(connection):
    """`(error, producer id, producer epoch)`"""
    r = connection.ask(INIT_PRODUCER_ID, 0, string(None) + struct.pack(">i", 60_000))
    r.int("i")
    return r.int("h"), r.int("q"), r.int("h")


def list_offset(connection, topic, partition, timestamp, replica=-1):
    """ListOffsets v4 of one partition; `(error, timestamp, offset)`."""
    asked = struct.pack(">iiq", partition, -1, timestamp)
    r = connection.ask(LIST_OFFSETS, 4, struct.pack(">ib", replica, 0) + array([string(topic) + array([asked])]))
    r.int("i")
    assert (r.int("i"), r.string(), r.int("i")) == (1, topic, 1)
    assert r.int("i") == partition
    return r.int("h"), r.int("q"), r.int("q")


def fetch(connection, topic, partition, offset, **limits):
    """Fetch v11 of one partition, without a session:
    `{"error", "high_watermark", "log_start", "preferred", "records"}`."""
    return begin_fetch(connection, topic, partition, offset, **limits)()


def begin_fetch(connection, topic, partition, offset, max_bytes=1 << 20, wait_ms=500, min_bytes=1, rack=""):
    """Sends a fetch; what is returned waits for its answer."""
    offsets = {partition: offset}
    answer = _fetch(connection, topic, offsets, (), 0, -1, max_bytes, wait_ms, min_bytes, rack)

    def fetched():
        _, _, topics = answer()
        [(_, [(number, found)])] = topics
        assert number == partition
        return found

    return fetched


def fetch_in_session(connection, session, epoch, topic, offsets, forgotten=(), wait_ms=100):
    """Fetch v11 in a session (KIP-227) that is opened with epoch 0: `offsets` of partitions that are new or
    changed, and partitions that are `forgotten`; `(error, session, {partition: what fetch returns})`."""
    error, session, topics = _fetch(connection, topic, offsets, forgotten, session, epoch, 1 << 20, wait_ms, 1, "")()
    assert [name for name, _ in topics] in ([], [topic])
    return error, session, dict(topics[0][1]) if topics else {}


def _fetch(connection, topic, offsets, forgotten, session, epoch, max_bytes, wait_ms, min_bytes, rack):
    asked = [struct.pack(">iiqqi", partition, -1, offset, -1, max_bytes) for partition, offset in offsets.items()]
    body = struct.pack(">iiiibii", -1, wait_ms, min_bytes, max_bytes, 0, session, epoch)
    body += array([string(topic) + array(asked)] if asked else [])
    gone = [struct.pack(">i", partition) for partition in forgotten]
    body += array([string(topic) + array(gone)] if gone else []) + string(rack)
    answer = connection.begin(FETCH, 11, body)

    def fetched():
        r = answer()
        r.int("i")
        error, session = r.int("h"), r.int("i")
        return error, session, r.array(lambda: (r.string(), r.array(lambda: _fetched(r))))

    return fetched


def _fetched(r):
    number = r.int("i")
    found = {"error": r.int("h"), "high_watermark": r.int("q")}
    r.int("q")
    found["log_start"] = r.int("q")
    r.array(lambda: (r.int("q"), r.int("q")))
    found["preferred"] = r.int("i")
    found["records"] = r.bytes()
    return number, found


def find_coordinator(connection, group):
    """FindCoordinator v0; `(error, node)`."""
    r = connection.ask(FIND_COORDINATOR, 0, string(group))
    return r.int("h"), r.int("i")


def commit_offset(connection, group, topic, partition, offset):
    """OffsetCommit v2 of one partition, of a group whose members are managed elsewhere; the error."""
    body = string(group) + struct.pack(">i", -1) + string("") + struct.pack(">q", -1)
    body += array([string(topic) + array([struct.pack(">iq", partition, offset) + string(None)])])
    r = connection.ask(OFFSET_COMMIT, 2, body)
    assert (r.int("i"), r.string(), r.int("i")) == (1, topic, 1)
    assert r.int("i") == partition
    return r.int("h")


def committed_offset(connection, group, topic, partition):
    """OffsetFetch v2 of one partition; `(error, offset)`."""
    body = string(group) + array([string(topic) + array([struct.pack(">i", partition)])])
    r = connection.ask(OFFSET_FETCH, 2, body)
    topics = r.array(lambda: (r.string(), r.array(lambda: (r.int("i"), r.int("q"), r.string(), r.int("h")))))
    error = r.int("h")
    [(_, [(_, offset, _, of_partition)])] = topics
    return error or of_partition, offset


def alter_configs(connection, topic, configs, validate_only=False):
    """AlterConfigs v1 of one topic; the error."""
    entries = array([string(key) + string(value) for key, value in configs.items()])
    body = array([struct.pack(">b", 2) + string(topic) + entries]) + struct.pack(">b", validate_only)
    r = connection.ask(ALTER_CONFIGS, 1, body)
    r.int("i")
    [(error, _, kind, name)] = r.array(lambda: (r.int("h"), r.string(), r.int("b"), r.string()))
    assert (kind, name) == (2, topic)
    return error
