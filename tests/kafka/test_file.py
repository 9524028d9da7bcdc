"""A real file through the whole house: a million checksummed records into `fra`, read back from the
learners, and the same bytes at the same offsets on all nine disks."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaProducer

from harness import dumps, kafka, records, wait

COUNT = 1_000_000
PARTITIONS = 4


@pytest.fixture
def file(tmp_path):
    """The file, and the digest of its lines by partition: line n belongs to partition n % 4."""
    path, digests = tmp_path / "million.txt", [hashlib.sha256() for _ in range(PARTITIONS)]
    with open(path, "w") as out:
        for n in range(COUNT):
            line = f"{n:09d} {n * 2_654_435_761 % (1 << 64):020d} {n * 40_503 % 65_521:05d} the same in every place"
            line = f"{line} {records.checksum(line)}\n"
            digests[n % PARTITIONS].update(line.encode())
            out.write(line)
    yield path, [digest.hexdigest() for digest in digests]
    path.unlink()


def produce_librdkafka(bootstrap, topic, path, first, last):
    failed = []
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 50, "compression.type": "lz4",
         "queue.buffering.max.messages": 100_000}
    )  # fmt: skip
    delivered = lambda error, _: error and failed.append(error)
    with open(path, "rb") as lines:
        for n, line in enumerate(lines):
            if not first <= n < last:
                continue
            while True:
                try:
                    producer.produce(topic, line, partition=n % PARTITIONS, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.05)
    assert (producer.flush(120), failed) == (0, [])


def produce_kafka_python(bootstrap, topic, path, first, last):
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), linger_ms=50, batch_size=1 << 18)
    failed = []
    with open(path, "rb") as lines:
        for n, line in enumerate(lines):
            if first <= n < last:
                producer.send(topic, line, partition=n % PARTITIONS).add_errback(failed.append)
    producer.flush(120)
    producer.close()
    assert failed == []


def digests_read_in(dev, dc, topic):
    consumer = Consumer(
        {"bootstrap.servers": dev.bootstrap(dc), "group.id": f"{topic}-{dc}", "client.rack": dc,
         "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    digests, counts, expected = [hashlib.sha256() for _ in range(PARTITIONS)], [0] * PARTITIONS, [0] * PARTITIONS

    def complete():
        for message in consumer.consume(20_000, timeout=0.5):
            if not message.error():
                partition = message.partition()
                assert message.offset() == expected[partition], "offsets are dense and in order"
                expected[partition] += 1
                counts[partition] += 1
                digests[partition].update(message.value())
        return sum(counts) >= COUNT

    wait.until(lambda: f"{COUNT} records in {dc}, have {counts}", complete, 300, 0)
    consumer.close()
    return [digest.hexdigest() for digest in digests]


@pytest.mark.alone
@pytest.mark.timeout(1200)
def test_a_million_records_are_the_same_bytes_on_all_nine_disks(own_dev, file, topic, figure):
    dev, (path, digests) = own_dev(), file
    kafka.create_topic(dev.bootstrap(), topic, PARTITIONS)
    began = time.monotonic()
    # Two clients, one after the other: the order of the file is the order of the log.
    produce_librdkafka(dev.bootstrap("fra"), topic, path, 0, COUNT * 9 // 10)
    between = time.monotonic()
    produce_kafka_python(dev.bootstrap("fra"), topic, path, COUNT * 9 // 10, COUNT)
    figure(
        f"a million records of {path.stat().st_size / COUNT:.0f} B into a dev cluster: "
        f"{COUNT * 0.9 / (between - began):.0f} records/s by librdkafka, "
        f"{COUNT * 0.1 / (time.monotonic() - between):.0f} by kafka-python"
    )
    with ThreadPoolExecutor() as pool:
        iad, sin = pool.map(lambda dc: digests_read_in(dev, dc, topic), ("iad", "sin"))
    assert iad == digests
    assert sin == digests
    dumps.wait_same(dev, topic, PARTITIONS)
