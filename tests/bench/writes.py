"""Bytes written per byte produced, by how much one sync carries."""

import os

from harness import batch, kafka, wire
from price import priced
from report import print_table

BATCH_BYTES = (4 << 10, 16 << 10, 64 << 10, 256 << 10, 1000 << 10)
PRODUCED = 32 << 20

# Where a file gets at least 64 KiB per sync.
WRITTEN_MAX, WRITTEN_FROM = 1.1, 64 << 10


def measure(system, report):
    rows = [["one batch at a time, acks=all", "MB/s", "bytes written per byte", "brokers' CPU s"]]
    for size in BATCH_BYTES:
        topic = f"writes-{size}"
        system.create(topic, 1)
        data = batch.encode([os.urandom(size - 80)])
        count = max(64, PRODUCED // size)
        address = system.bootstrap.split(",")[0]
        leader = wire.metadata(address)["brokers"][kafka.leader(address, topic)[0]]["address"]

        def work(topic=topic, data=data, count=count, leader=leader):
            with wire.Connection(leader) as connection:
                for _ in range(count):
                    assert wire.produce(connection, topic, 0, data)[0] == wire.NONE

        _, seconds, cpu, written = priced(system, work)
        produced = len(data) * count
        rows.append([f"{size >> 10} KiB", f"{produced / seconds / 1e6:.1f}", f"{written / produced:.2f}", f"{cpu:.1f}"])
        if system.name == "Isobar" and size >= WRITTEN_FROM:
            ratio = written / produced
            report.floor(f"{ratio:.2f} bytes written per byte at {size >> 10} KiB", ratio <= WRITTEN_MAX)
        system.delete(topic)
    print(f"{system.name}: what reaches the disk of the broker that writes most")
    print_table(rows)
