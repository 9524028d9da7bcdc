"""Throughput, latency and their price. See `run`."""

import os
import shutil
import statistics
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

import systems
from harness import batch, clients, wait, wire

DIRECTORY = Path(os.environ["BENCH_DIR"])
RECORDS = int(os.environ.get("BENCH_RECORDS", "300000"))
ONLY = os.environ.get("BENCH_ONLY", "")
RECORD = os.urandom(512).hex().encode()

# The claims of the system that this project succeeds.
FLOOR_RECORDS_PER_SECOND = 50_000
FLOOR_ACKS_ALL_P50_MS = 5.0
# Bytes written per byte produced, where a file gets at least 64 KiB per sync.
WRITTEN_MAX = 1.1
CURVE_BYTES = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1000 << 10)

missed = []


def floor(text, holds):
    if not holds:
        missed.append(text)


def percentiles(seconds):
    values = sorted(seconds)
    return tuple(values[min(len(values) - 1, int(len(values) * q))] * 1000 for q in (0.5, 0.99))


def bare_fdatasync(size):
    """The median of append and fdatasync to one file, in milliseconds."""
    took, data = [], os.urandom(size)
    path = DIRECTORY / "bare"
    with open(path, "wb", buffering=0) as out:
        for _ in range(200):
            began = time.perf_counter()
            out.write(data)
            os.fdatasync(out.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(took) * 1000


def priced(system, work):
    """`(result, seconds, CPU seconds, bytes written by the one that wrote most)` of the brokers."""
    processes = system.processes()
    cpu, written = [p.cpu_seconds() for p in processes], [systems.written_bytes(p) for p in processes]
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    used = sum(p.cpu_seconds() - before for p, before in zip(processes, cpu, strict=True))
    bytes_ = max(systems.written_bytes(p) - before for p, before in zip(processes, written, strict=True))
    return result, seconds, used, bytes_


def produce_librdkafka(system, topic, acks):
    failed = []
    producer = Producer(
        {"bootstrap.servers": system.bootstrap, "acks": acks, "linger.ms": 5, "batch.size": 1 << 20,
         "queue.buffering.max.messages": 200_000, "log_level": 2}
    )  # fmt: skip
    delivered = lambda error, _: error and failed.append(error)
    for n in range(RECORDS):
        while True:
            try:
                producer.produce(topic, RECORD, partition=n % 3, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        if n % 1000 == 0:
            producer.poll(0)
    assert (producer.flush(300), failed) == (0, [])


def consume_librdkafka(system, topic):
    consumer = Consumer(
        {"bootstrap.servers": system.bootstrap, "group.id": "bench", "enable.auto.commit": False, "log_level": 2}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(3)])
    seen = 0

    def complete():
        nonlocal seen
        seen += sum(not message.error() for message in consumer.consume(50_000, timeout=0.2))
        return seen >= RECORDS

    wait.until(lambda: f"{RECORDS} records, have {seen}", complete, 300, 0)
    consumer.close()


def throughput(system):
    size = RECORDS * len(RECORD)
    for acks in ("1", "all"):
        topic = f"throughput-{acks}"
        system.create(topic, 3)
        _, seconds, cpu, written = priced(system, lambda topic=topic, acks=acks: produce_librdkafka(system, topic, acks))
        rate = RECORDS / seconds
        print(
            f"{system.name:12} | librdkafka produce acks={acks:3} | {size / seconds / 1e6:6.1f} MB/s | {rate:8.0f} records/s"
            f" | {cpu:6.1f} CPU s | {written / size:5.2f} bytes written per byte"
        )
        if system.name == "Isobar":
            floor(f"{rate:.0f} records/s of 1 KiB at acks={acks}", rate >= FLOOR_RECORDS_PER_SECOND)
        _, seconds, cpu, _ = priced(system, lambda topic=topic: consume_librdkafka(system, topic))
        print(f"{system.name:12} | librdkafka consume          | {size / seconds / 1e6:6.1f} MB/s | {RECORDS / seconds:8.0f} records/s | {cpu:6.1f} CPU s")
        if clients.has_java():
            done = clients.java(
                "ProducerPerformance", "--topic", topic, "--num-records", RECORDS, "--record-size", 1024,
                "--throughput", -1, "--producer-props", f"bootstrap.servers={system.bootstrap}", f"acks={acks}",
                "enable.idempotence=false", seconds=600,
            )  # fmt: skip
            print(f"{system.name:12} | ProducerPerformance acks={acks:3} | {done.stdout.strip().splitlines()[-1]}")


def leader_address(system, topic):
    address = system.bootstrap.split(",")[0]
    found = wire.metadata(address, [topic])
    return found["brokers"][found["topics"][topic]["partitions"][0]["leader"]]["address"]


def latency(system, bare_ms):
    topic = "latency"
    system.create(topic, 1)
    data = batch.encode([RECORD])
    for name, acks in (("1", 1), ("all", -1)):
        with wire.Connection(leader_address(system, topic)) as connection:
            took = []
            for _ in range(1100):
                began = time.perf_counter()
                assert wire.produce(connection, topic, 0, data, acks)[0] == wire.NONE
                took.append(time.perf_counter() - began)
        p50, p99 = percentiles(took[100:])
        print(f"{system.name:12} | one record at a time acks={name:3} | p50 {p50:6.2f} ms | p99 {p99:6.2f} ms")
        if system.name == "Isobar" and acks == -1:
            # Two syncs stand one after the other at most: the leader's beside the slower follower's.
            floor(f"acks=all p50 {p50:.2f} ms", p50 <= max(FLOOR_ACKS_ALL_P50_MS, 4 * bare_ms))


def curve(system):
    """Bytes written per byte produced, by how much one sync carries."""
    for size in CURVE_BYTES:
        topic = f"curve-{size}"
        system.create(topic, 1)
        data = batch.encode([os.urandom(size - 80)])
        count = max(64, (32 << 20) // size)

        def work(topic=topic, data=data, count=count):
            with wire.Connection(leader_address(system, topic)) as connection:
                for _ in range(count):
                    assert wire.produce(connection, topic, 0, data)[0] == wire.NONE

        _, seconds, cpu, written = priced(system, work)
        produced = len(data) * count
        print(
            f"{system.name:12} | batches of {size >> 10:5} KiB, one at a time | {produced / seconds / 1e6:6.1f} MB/s"
            f" | {written / produced:5.2f} bytes written per byte | {cpu:5.1f} CPU s"
        )
        if system.name == "Isobar" and size >= 64 << 10:
            floor(f"{written / produced:.2f} bytes written per byte at {size >> 10} KiB", written / produced <= WRITTEN_MAX)


def main():
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    bare = bare_fdatasync(1 << 10)
    print(f"bare append and fdatasync, p50: {bare:.2f} ms with 1 KiB, {bare_fdatasync(64 << 10):.2f} ms with 64 KiB")
    for kind in systems.available():
        if ONLY and ONLY not in kind.name.lower():
            continue
        system = kind(DIRECTORY / kind.__name__)
        try:
            system.start()
            throughput(system)
            latency(system, bare)
            curve(system)
        finally:
            system.close()
    print(f"bare append and fdatasync at the end, p50: {bare_fdatasync(1 << 10):.2f} ms with 1 KiB")
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    for text in missed:
        print(f"below the floor: {text}")
    sys.exit(1 if missed else 0)


main()
