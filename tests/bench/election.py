"""From the death of a leader (SIGKILL) to the first acknowledged produce that began after it."""

import time

from harness import kafka
from harness.load import Load
from price import percentiles
from report import print_table


def measure(system, report):
    topic, took = "election", []
    system.create(topic, 1)
    address = system.bootstrap.split(",")[0]
    # A producer that asks again every 50 ms; what a client's own patience adds is not measured.
    with Load(system.bootstrap, topic, rate=500) as load:
        for _ in range(system.kills):
            kafka.wait_in_sync(address, topic, 1, seconds=120)
            load.wait_acknowledged(100)
            leader, _ = kafka.leader(address, topic)
            system.kill9(leader)
            killed = time.monotonic()
            took.append(load.wait_acknowledged(1, seconds=120).ended - killed)
            system.start_again(leader)
        kafka.wait_in_sync(address, topic, 1, seconds=120)
    assert load.failures() == []
    p50, p95, p99 = (milliseconds / 1000 for milliseconds in percentiles(took))
    report.reached("S70", system.name, p50, p95, p99)
    print(f"{system.name}: {system.kills} leaders killed, one after the other")
    figures = [f"{seconds:.2f} s" for seconds in (p50, p95, p99, max(took))]
    print_table([["", "p50", "p95", "p99", "most"], ["until the first acknowledged produce (acks=all)", *figures]])
    system.delete(topic)
