"""Records of 1 KiB a second: one and three producers, one and three consumers of what was just written."""

import os
from collections import defaultdict

import workers
from harness import clients
from price import priced
from report import print_table, spread

RUNS = 3
PARTITIONS = 3

# The claim of the system that this project succeeds, of one producer.
FLOOR_RECORDS_PER_SECOND = 50_000


def measure(system, records, report):
    print(
        f"{system.name}: throughput of {records:,} records of 1 KiB, {PARTITIONS} partitions x 3 replicas, median of {RUNS} "
        f"runs (least to most). librdkafka, each client a process; linger 5 ms, batches of up to 1 MiB, no compression."
        f"\nHot: what is read was just written, and all of it is in memory; cold: the page cache has nothing of it any more. "
        f"{system.durability}"
    )
    rates, cpu, written = defaultdict(list), defaultdict(list), defaultdict(list)

    def one(what, work, count, *args):
        os.sync()  # What the run before left in the page cache is not this one's work.
        seconds, _, used, bytes_ = priced(system, lambda: workers.run(work, count, system.bootstrap, *args))
        rates[what].append(records / seconds)
        cpu[what].append(used)
        written[what].append(bytes_ / records / workers.RECORD_BYTES)

    for run in range(RUNS):
        for acks in ("1", "all"):
            topic = f"throughput-{run}-{acks}"
            for count, who in ((1, "one producer"), (3, "three producers")):
                system.create(f"{topic}-{count}", PARTITIONS)
                one(f"{who}, acks={acks}", workers.produce, count, f"{topic}-{count}", PARTITIONS, acks, records)
                if acks == "all" and count == 1:
                    one("one consumer, hot", workers.consume, 1, f"{topic}-{count}", records)
                    one("three consumers in a group, hot", workers.consume_in_group, 3, f"{topic}-{count}", records)
                    system.cool()
                    one("one consumer, cold", workers.consume, 1, f"{topic}-{count}", records)
                system.delete(f"{topic}-{count}")
    rows = [["", "records/s", "MB/s", "brokers' CPU s", "bytes written per byte"]]
    for what, values in rates.items():
        megabytes = [rate * workers.RECORD_BYTES / 1e6 for rate in values]
        price = spread(written[what], 2) if "producer" in what else "-"
        rows.append([what, spread(values), spread(megabytes), spread(cpu[what], 1), price])
    print_table(rows)
    median = lambda what: sorted(rates[what])[RUNS // 2]
    report.reached("S71", system.name, median("one producer, acks=all"))
    report.reached("S72", system.name, median("three producers, acks=all"))
    report.reached("S73", system.name, median("one consumer, hot"))
    report.reached("S73, cold", system.name, median("one consumer, cold"))
    report.reached("S74", system.name, median("three consumers in a group, hot"))
    if system.name == "Isobar":
        for acks in ("1", "all"):
            rate = median(f"one producer, acks={acks}")
            report.floor(f"{rate:.0f} records/s of 1 KiB at acks={acks}", rate >= FLOOR_RECORDS_PER_SECOND)


def of_kafkas_own_tool(system, records):
    """The same with the Java client, as its own tool tells it."""
    if not clients.has_java():
        return
    for acks in ("1", "all"):
        topic = f"performance-{acks}"
        system.create(topic, PARTITIONS)
        done = clients.java(
            "ProducerPerformance", "--topic", topic, "--num-records", records, "--record-size", workers.RECORD_BYTES,
            "--throughput", -1, "--producer-props", f"bootstrap.servers={system.bootstrap}", f"acks={acks}",
            "enable.idempotence=false", seconds=600,
        )  # fmt: skip
        print(f"{system.name}: ProducerPerformance, acks={acks}: {done.stdout.strip().splitlines()[-1]}")
        system.delete(topic)
    print(flush=True)
