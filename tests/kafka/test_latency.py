"""What an acknowledgement costs: one round trip to the nearest required DC on a sync topic, the home
DC's own latency on an async one; also where packets are lost (G4)."""

import statistics
import time

import pytest

from harness import batch, kafka, wire

SAMPLES = 41
# Round trip to the nearest DC, and the share of packets that is lost each way.
WANS = ((20, "0%"), (90, "0%"), (200, "0%"), (250, "0%"), (20, "1%"), (250, "1%"))


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
    figure("RTT to the nearest DC | loss | acks=all p50, sync | acks=all p50, async")
    rows = {}
    for rtt, loss in WANS:
        dev.cli().link_set("fra", "iad", rtt=f"{rtt}ms", loss=loss)
        dev.cli().link_set("fra", "sin", rtt=f"{rtt + 60}ms", loss=loss)
        rows[rtt, loss] = p50_ms(dev, f"{topic}-sync"), p50_ms(dev, f"{topic}-async")
        figure(f"{rtt:18} ms | {loss:>4} | {rows[rtt, loss][0]:15.1f} ms | {rows[rtt, loss][1]:16.1f} ms")
    for (rtt, loss), (sync, local) in rows.items():
        told = f"{rtt} ms, {loss} lost: sync {sync:.1f} ms, async {local:.1f} ms"
        assert rtt <= sync <= 1.1 * rtt + local, told
        assert local < min(rtt for rtt, _ in WANS), f"async waits for no WAN: {told}"
