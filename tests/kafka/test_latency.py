"""What an acknowledgement costs: one round trip to the nearest required DC on a sync topic, the home
DC's own latency on an async one."""

import statistics
import time

import pytest

from harness import batch, kafka, wire

SAMPLES = 41
ROUND_TRIPS_MS = (20, 90, 200)


def p50_ms(dev, topic):
    """Median of one-record acks=all produces, one at a time, from a client beside the leader."""
    leader, _ = kafka.leader(dev.kafka(1), topic)
    took = []
    with wire.Connection(dev.kafka(leader)) as connection:
        for _ in range(5 + SAMPLES):
            data = batch.encode([b"x" * 100])
            began = time.perf_counter()
            error, _ = wire.produce(connection, topic, 0, data, timeout_ms=10_000)
            took.append((time.perf_counter() - began) * 1000)
            assert error == wire.NONE
    return statistics.median(took[5:])


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_a_sync_ack_is_one_round_trip_and_an_async_one_is_local(own_dev, topic, figure):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), f"{topic}-sync", isobar_replication="sync")
    kafka.create_topic(dev.bootstrap(), f"{topic}-async")
    figure("RTT to the nearest DC | acks=all p50, sync | acks=all p50, async")
    rows = {}
    for rtt in ROUND_TRIPS_MS:
        dev.cli().link_set("fra", "iad", rtt=f"{rtt}ms")
        dev.cli().link_set("fra", "sin", rtt=f"{rtt + 60}ms")
        rows[rtt] = p50_ms(dev, f"{topic}-sync"), p50_ms(dev, f"{topic}-async")
        figure(f"{rtt:17} ms | {rows[rtt][0]:16.1f} ms | {rows[rtt][1]:17.1f} ms")
    for rtt, (sync, local) in rows.items():
        assert rtt <= sync <= 1.1 * rtt + local, f"{rtt} ms: {sync:.1f} ms, async {local:.1f} ms"
        assert local < min(ROUND_TRIPS_MS), f"async waits for no WAN: {local:.1f} ms"
