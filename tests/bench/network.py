"""What the network between datacenters costs: `isobar dev`, three DCs, every two of them equally far apart."""

import contextlib
import statistics
import threading
import time

import workers
from harness import batch, http, kafka, wait, wire
from harness.dev import DCS, Dev
from harness.load import Load
from latency import RECORD
from price import percentiles
from report import print_table, spread

ROUND_TRIPS_MS = (1, 10, 50, 100, 200)
ACKS, WARM_UP = 40, 5
PARTITIONS = 12
LOAD_RECORDS_PER_SECOND, LOAD_SECONDS = 500, 4
# A remote DC that needs longer shows in how far behind it is.
CATCH_UP_SECONDS = 30
# At this round trip sync and async are compared, so there are several runs of each.
COMPARED_MS, COMPARED_RUNS = 100, 3


def measure(directory, records, report):
    print(
        f"Isobar: cost of the network. `isobar dev`: nine nodes in one process, every two DCs a round trip apart, no loss, "
        f"no limit of bandwidth.\nAck: acks=all, one record of 1 KiB at a time, p50 of {ACKS}. Behind: exposure of an async "
        f"topic under {LOAD_RECORDS_PER_SECOND} records/s, the age of the oldest that a remote DC lacks.\nThroughput: "
        f"{records:,} records of 1 KiB by one producer, acks=all, {PARTITIONS} partitions x 9 replicas, batch.size 1 MiB; "
        f"to the last ack, and until every DC has it all: an async topic may owe that when its producer is done, and all of "
        f"it is done by these cores.\nBeside it how far a remote DC was behind at most (async), and what left the home for the "
        f"WAN per byte of records (async and sync): six copies, one for each remote replica, and what QUIC adds."
    )
    dev = Dev(directory)
    rows = [["RTT", "ack async", "ack sync", "behind p50", "most", "async MB/s", "everywhere", "behind"]]
    rows[0] += ["sync MB/s", "everywhere", "sync/async", "everywhere", "WAN bytes"]
    try:
        dev.start()
        for rtt in ROUND_TRIPS_MS:
            for a, b in (DCS[:2], DCS[1:], DCS[::2]):
                dev.cli().link_set(a, b, rtt=f"{rtt}ms")
            rows.append(row(dev, rtt, records, report))
    finally:
        dev.close()
        print_table(rows)


def row(dev, rtt, records, report):
    acks = [f"{ack_p50_ms(dev, f'ack-{rtt}-{kind}', kind):.1f} ms" for kind in ("async", "sync")]
    behind = exposure_under_load(dev, f"behind-{rtt}")
    rates, everywhere, furthest, sent = {"async": [], "sync": []}, {"async": [], "sync": []}, [], []
    for run in range(COMPARED_RUNS if rtt == COMPARED_MS else 1):
        for kind, found in rates.items():
            before = wan_bytes(dev)
            rate, rate_everywhere, exposure = throughput(dev, f"rate-{rtt}-{run}-{kind}", kind, records)
            sent.append((wan_bytes(dev) - before) / records / workers.RECORD_BYTES)
            found.append(rate / 1e6)
            everywhere[kind].append(rate_everywhere / 1e6)
            furthest += [exposure] if kind == "async" else []
    ratio, ratio_everywhere = (statistics.median(of["sync"]) / statistics.median(of["async"]) for of in (rates, everywhere))
    if rtt == COMPARED_MS:
        report.reached("G4", "Isobar", ratio * 100)
    told = [f"{seconds * 1000:.0f} ms" for seconds in (statistics.median(behind), max(behind))]
    of_async = spread(rates["async"], 1), spread(everywhere["async"], 1), f"{max(furthest):.1f} s"
    of_sync = spread(rates["sync"], 1), spread(everywhere["sync"], 1)
    return [f"{rtt} ms", *acks, *told, *of_async, *of_sync, f"{ratio:.0%}", f"{ratio_everywhere:.0%}", spread(sent, 1)]


def ack_p50_ms(dev, topic, kind):
    kafka.create_topic(dev.bootstrap(), topic, isobar_replication=kind)
    data, took = batch.encode([RECORD]), []
    with wire.Connection(dev.kafka(kafka.leader(dev.kafka(1), topic)[0])) as connection:
        for _ in range(WARM_UP + ACKS):
            began = time.perf_counter()
            assert wire.produce(connection, topic, 0, data)[0] == wire.NONE
            took.append(time.perf_counter() - began)
    kafka.delete_topic(dev.bootstrap(), topic)
    return percentiles(took[WARM_UP:])[0]


def wan_bytes(dev):
    return sum(value for _, value in http.samples(dev.admin(1), "isobar_wan_bytes_total"))


def exposure_seconds(dev, topic):
    """Of the DC and the partition that are furthest behind, as the leaders at home tell it."""
    told = [http.samples(dev.admin(node), "isobar_exposure_seconds", topic=topic) for node in dev.nodes("fra")]
    return max(value for samples in told for _, value in samples)


def exposure_under_load(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic)
    found = []
    with Load(dev.bootstrap(), topic, rate=LOAD_RECORDS_PER_SECOND) as load:
        load.wait_acknowledged(LOAD_RECORDS_PER_SECOND)
        wait.for_seconds(LOAD_SECONDS, lambda: found.append(exposure_seconds(dev, topic)), every=0.05)
    kafka.delete_topic(dev.bootstrap(), topic)
    return found


def throughput(dev, topic, kind, records):
    """Bytes a second of one producer, and until every DC has them; and the most that one was behind."""
    kafka.create_topic(dev.bootstrap(), topic, PARTITIONS, isobar_replication=kind)
    kafka.wait_in_sync(dev.kafka(1), topic, PARTITIONS)
    found, ended = [], threading.Event()

    def watch():
        while not ended.wait(0.5):
            found.append(exposure_seconds(dev, topic))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        seconds = workers.run(workers.produce, 1, dev.bootstrap(), topic, PARTITIONS, "all", records)
    finally:
        ended.set()
        watching.join()
    produced, sent = time.monotonic(), records * workers.RECORD_BYTES
    with contextlib.suppress(wait.Late):
        wait.until("no exposure left", lambda: exposure_seconds(dev, topic) == 0, CATCH_UP_SECONDS, 0.05)
    everywhere = sent / (seconds + time.monotonic() - produced)
    found.append(exposure_seconds(dev, topic))
    kafka.delete_topic(dev.bootstrap(), topic)
    return sent / seconds, everywhere, max(found)
