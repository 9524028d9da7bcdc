"""How long one request takes: produce, fetch from the leader and from a follower, topic create."""

import statistics
import time

from confluent_kafka.admin import NewTopic

from harness import batch, kafka, wait, wire
from price import percentiles
from report import print_table, spread

RUNS = 5
REQUESTS, WARM_UP = 1000, 100
DELIVERIES = 20
TOPICS = 20
RECORD = bytes(range(32, 96)) * 16

# Of the system that this project succeeds: acks=all, p50.
FLOOR_ACKS_ALL_P50_MS = 5.0


def measure(system, bare_ms, report):
    print(
        f"{system.name}: latency in ms, one record of 1 KiB in a batch, one request in flight on one connection; a raw "
        f"client on this machine. {RUNS} runs of {REQUESTS}; of each percentile the median (least to most) of the runs."
        f"\n{system.durability}"
    )
    topic = "latency"
    system.create(topic, 1)
    leader, follower = addresses(system, topic)
    rows = [["", "p50", "p95", "p99"]]

    def told(row, what, runs):
        """`runs` are lists of seconds, in tables of milliseconds."""
        columns = list(zip(*map(percentiles, runs), strict=True))
        rows.append([what, *(spread(column, 2) for column in columns)])
        medians = [statistics.median(column) for column in columns]
        if row:
            report.reached(row, system.name, *medians)
        return medians[0]

    told("S65", "produce, acks=1", repeat(lambda: produces(leader, topic, 1)))
    p50 = told("S66", "produce, acks=all", repeat(lambda: produces(leader, topic, -1)))
    if system.name == "Isobar":
        # Two syncs stand one after the other at most: the leader's beside the slower follower's.
        report.floor(f"acks=all p50 {p50:.2f} ms", p50 <= max(FLOOR_ACKS_ALL_P50_MS, 4 * bare_ms))
    told("S67", "fetch of one batch, hot, from the leader", repeat(lambda: fetches(leader, topic)))
    told("S68", "fetch of one batch, hot, from a follower", repeat(lambda: fetches(follower, topic)))
    for place, node in (("the leader", leader), ("a follower", follower)):
        runs = repeat(lambda node=node: deliveries(leader, node, topic))
        told(None, f"produce (acks=all) until a fetch that waits at {place} has it", runs)
    told("S69", f"topic create until listed everywhere and written to (x {TOPICS})", creates(system))
    print_table(rows)


def repeat(run):
    return [run() for _ in range(RUNS)]


def addresses(system, topic, partition=0):
    """Of the partition's leader and of one follower that is in sync."""
    kafka.wait_in_sync(system.bootstrap.split(",")[0], topic, 1)
    found = wire.metadata(system.bootstrap.split(",")[0], [topic])
    placed = found["topics"][topic]["partitions"][partition]
    follower = next(node for node in placed["replicas"] if node != placed["leader"])
    return found["brokers"][placed["leader"]]["address"], found["brokers"][follower]["address"]


def timed(work):
    """Seconds of each of the requests, without the first ones."""
    took = []
    for n in range(WARM_UP + REQUESTS):
        began = time.perf_counter()
        work(n)
        took.append(time.perf_counter() - began)
    return took[WARM_UP:]


def produces(leader, topic, acks):
    data = batch.encode([RECORD])
    with wire.Connection(leader) as connection:

        def one(_):
            assert wire.produce(connection, topic, 0, data, acks)[0] == wire.NONE

        return timed(one)


def fetches(node, topic):
    """Batches that are there, one after the other: a fetch of so few bytes answers with one."""
    with wire.Connection(node) as connection:

        def one(n):
            got = wire.fetch(connection, topic, 0, n, max_bytes=len(RECORD) // 2)
            assert got["error"] == wire.NONE and got["records"]

        wait.until("the high watermark", lambda: shown(connection, topic) >= WARM_UP + REQUESTS)
        return timed(one)


def shown(connection, topic):
    return wire.fetch(connection, topic, 0, 0, max_bytes=1)["high_watermark"]


def deliveries(leader, node, topic):
    """From before a produce until it is acknowledged and a fetch that waits at `node` has brought the record."""
    data, took = batch.encode([RECORD]), []
    with wire.Connection(leader) as sender, wire.Connection(node) as reader, wire.Connection(leader) as asked:
        end = shown(asked, topic)
        wait.until("the high watermark at the reader", lambda: shown(reader, topic) >= end)
        for offset in range(end, end + DELIVERIES):
            waiting = wire.begin_fetch(reader, topic, 0, offset, wait_ms=5000)
            began = time.perf_counter()
            assert wire.produce(sender, topic, 0, data)[0] == wire.NONE
            assert waiting()["records"]
            took.append(time.perf_counter() - began)
    return took


def creates(system):
    """Of each run its list of seconds: from the request until every node lists it and a produce succeeds."""
    client, nodes, data = kafka.admin(system.bootstrap), system.bootstrap.split(","), batch.encode([RECORD])
    client.list_topics("latency", timeout=30)
    runs = []
    for run in range(RUNS):
        took = []
        for n in range(TOPICS):
            topic = f"created-{run}-{n}"
            began = time.perf_counter()
            client.create_topics([NewTopic(topic, num_partitions=1, replication_factor=-1)])[topic].result(60)
            wait.until(topic, lambda topic=topic: all(leader_told(node, topic) for node in nodes), 30, 0.001)
            with wire.Connection(leader_told(nodes[0], topic)) as connection:
                produced = lambda topic=topic: wire.produce(connection, topic, 0, data)[0] == wire.NONE
                wait.until(f"a record in {topic}", produced, 30, 0.001)
            took.append(time.perf_counter() - began)
        runs.append(took)
        for n in range(TOPICS):
            system.delete(f"created-{run}-{n}")
    return runs


def leader_told(node, topic):
    """The leader's address as the node tells it; None where it does not know."""
    found = wire.metadata(node, [topic])
    leader = found["topics"][topic]["partitions"].get(0, {"leader": -1})["leader"]
    return found["brokers"][leader]["address"] if leader >= 0 else None
