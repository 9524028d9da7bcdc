"""What retention and deletion let go is gone in every datacenter alike."""

import os

import pytest

from harness import batch, dumps, kafka, wait, wire

MIB = 1 << 20
SENT_BYTES, KEPT_BYTES = 8 * MIB, 2 * MIB
RECORD_BYTES = 16 << 10
EARLIEST = -2
# A leader looks every minute.
RETENTION_SECONDS = 90


def send(one, topic, size):
    """Incompressible records; the offset after the last."""
    values = (os.urandom(RECORD_BYTES) for _ in range(size // RECORD_BYTES))
    return 1 + max(kafka.send(one.bootstrap("fra"), topic, values))


def earliest(one, node, topic):
    """As the node's own replica has it, leader or not."""
    with wire.Connection(one.kafka(node)) as connection:
        error, _, offset = wire.list_offset(connection, topic, 0, EARLIEST, replica=wire.DEBUGGING_REPLICA)
    assert error == wire.NONE, error
    return offset


def wait_earliest(one, topic, offset):
    """Until every replica's log begins there."""
    found = lambda: {n: earliest(one, n, topic) for n in one.numbers()}
    wait.until(lambda: f"{topic} from {offset} on: {found()}", lambda: set(found().values()) == {offset})


def on_disk(one, node, topic):
    return sum(path.stat().st_size for path in dumps.segments(one, node, topic))


@pytest.mark.timeout(240)
def test_time_and_size_let_old_segments_go_everywhere(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    by_size, by_time, unbounded = (f"{topic}-{name}" for name in ("size", "time", "unbounded"))
    kafka.create_topic(one.bootstrap(), by_size, segment_bytes=MIB, retention_bytes=KEPT_BYTES)
    kafka.create_topic(one.bootstrap(), by_time, segment_bytes=MIB, retention_ms=1)
    kafka.create_topic(one.bootstrap(), unbounded, segment_bytes=MIB, retention_ms=-1)
    ends = {name: send(one, name, SENT_BYTES) for name in (by_size, by_time, unbounded)}
    for name in ends:
        assert min(on_disk(one, n, name) for n in one.numbers()) <= SENT_BYTES * 1.1
    leaders = {name: kafka.leader(one.kafka(1), name)[0] for name in (by_size, by_time)}

    def begins():
        return {name: earliest(one, leader, name) for name, leader in leaders.items()}

    wait.until(lambda: f"both have let go: {begins()}", lambda: min(begins().values()) > 0, RETENTION_SECONDS, 0.5)
    for name, start in begins().items():
        wait_earliest(one, name, start)
        dumps.wait_same(one, name, 1)
        left = lambda name=name: {n: on_disk(one, n, name) for n in one.numbers()}
        # The bound, the segment that it lies in, and one that a replica may keep to begin from.
        most = lambda left=left: max(left().values()) < KEPT_BYTES + 3 * MIB
        wait.until(lambda name=name, left=left: f"the disks have room again, {name}: {left()}", most)
        figure(f"{name}: begins at {start} of {ends[name]}; {max(left().values()) / MIB:.1f} of {SENT_BYTES / MIB:.0f} MiB left on disk")
    kept = (ends[by_size] - begins()[by_size]) * RECORD_BYTES
    assert KEPT_BYTES * 0.95 <= kept < KEPT_BYTES + 2.5 * MIB, f"{kept / MIB:.1f} MiB of records are left"
    assert [earliest(one, n, unbounded) for n in one.numbers()] == [0] * len(one.numbers())
    # What is left is there, in another datacenter, too.
    start = begins()[by_size]
    offsets = [offset for offset, _ in kafka.read(one.bootstrap(), by_size, start=start, rack="iad")]
    assert offsets == list(range(start, ends[by_size]))


def test_deleted_records_are_gone_for_who_asks_a_learner(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic)
    kafka.send(dev.bootstrap(), topic, [f"v{n}" for n in range(20)], linger_ms=0, batch_num_messages=4)
    dumps.wait_same(dev, topic, 1)
    assert kafka.delete_records(dev.bootstrap(), topic, 9) == 9
    wait_earliest(dev, topic, 9)
    for node in (dev.nodes("iad")[0], dev.nodes("sin")[0]):
        with wire.Connection(dev.kafka(node)) as learner:
            # That it is out of range, only a leader says: it makes clients go elsewhere.
            got = wire.fetch(learner, topic, 0, 8)
            assert (got["error"], got["records"]) == (wire.OFFSET_NOT_AVAILABLE, b"")
            got = wire.fetch(learner, topic, 0, 9)
            assert (got["error"], got["log_start"]) == (wire.NONE, 9)
            assert batch.split(got["records"])[-1][1] == 19
    dumps.wait_same(dev, topic, 1)
    rest = [(n, f"v{n}".encode()) for n in range(9, 20)]
    assert kafka.read(dev.bootstrap(), topic, rack="iad") == rest, "who begins before is sent to the earliest"
