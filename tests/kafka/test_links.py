"""The WAN of a dev cluster, cut, healed and made bad under load."""

import base64
import random
import time

import pytest

from conftest import LONG
from harness import batch, dumps, http, kafka, wait, wire
from harness.load import Load, check, read_back

CUT_SECONDS = 60 if LONG else 20
BAD_LINK_SECONDS = 600 if LONG else 60
RETRIABLE = {7, wire.NOT_ENOUGH_REPLICAS, 20}


def exposure_seconds(dev, topic, dc):
    """As the leader of partition 0 tells it."""
    leader, _ = kafka.leader(dev.kafka(1), topic)
    found = http.samples(dev.admin(leader), "isobar_exposure_seconds", topic=topic, partition=0, dc=dc)
    assert found, f"node {leader} tells no exposure of {topic} in {dc}"
    return max(value for _, value in found)


def exposed(dev, topic, dc):
    """Records and bytes, as the leader of partition 0 tells them."""
    exposure = dev.cli().partition(topic, 0)["exposure"][dc]
    return exposure["records"], exposure["bytes"]


def wan_bytes(dev, a, b):
    return sum(value for _, value in http.samples(dev.admin(1), "isobar_wan_bytes_total", **{"from": a, "to": b}))


def staleness_seconds(dev, topic, dc):
    """The least that a replica of partition 0 in the DC tells of itself: the receiving end."""
    nodes = [n for n in range(1, 10) if dev.dc_of(n) == dc]
    name = "isobar_replica_staleness_seconds"
    found = [http.samples(dev.admin(n), name, topic=topic, partition=0) for n in nodes]
    return min(value for samples in found for _, value in samples)


def oldest_missing_seconds(dev, topic, dc):
    """What a probe finds: the age, by its own timestamp, of the first record that the DC does not show."""
    node = next(n for n in range(1, 10) if dev.dc_of(n) == dc)
    leader, _ = kafka.leader(dev.kafka(1), topic)
    with wire.Connection(dev.kafka(node)) as here, wire.Connection(dev.kafka(leader)) as there:
        shown = wire.fetch(here, topic, 0, 0)["high_watermark"]
        first, *_ = batch.split(wire.fetch(there, topic, 0, shown)["records"])
        return time.time() - batch.first_timestamp_ms(first[2]) / 1000


def bootstraps(dev):
    return {dc: dev.bootstrap(dc) for dc in ("fra", "iad", "sin")}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("one_way", [False, True], ids=["both-ways", "one-way"])
def test_a_cut_link_stops_nobody_who_can_go_on(one_way, own_dev, topic, figure):
    """The link between the home and `__meta`'s leader, which stands elsewhere."""
    dev = own_dev()
    cut = dev.dc_of(dev.cli().json("cluster", "status")["controller"])
    home = "fra" if cut != "fra" else "iad"
    (other,) = {"fra", "iad", "sin"} - {home, cut}
    kafka.create_topic(dev.bootstrap(), f"{topic}-async", 2, isobar_home=home)
    kafka.create_topic(dev.bootstrap(), f"{topic}-sync", isobar_home=home, isobar_replication="sync")
    with (
        Load(dev.bootstrap(), f"{topic}-async", 2, rate=100) as local,
        Load(dev.bootstrap(), f"{topic}-sync", 1, rate=50) as sync,
    ):
        local.wait_acknowledged(100)
        wait.until("no exposure to speak of", lambda: exposure_seconds(dev, f"{topic}-async", cut) < 2)
        dev.cli().link_cut(home, cut, one_way)
        began = time.monotonic()

        def goes_on():
            local.wait_acknowledged(1, seconds=5)
            # k = 1: the other DC suffices.
            sync.wait_acknowledged(1, seconds=10)

        while time.monotonic() - began < CUT_SECONDS:
            goes_on()
        since = time.monotonic() - began
        told = exposure_seconds(dev, f"{topic}-async", cut)
        figure(f"link {home}-{cut} cut for {since:.1f} s{' one way' if one_way else ''}: exposure in {cut} {told:.1f} s")
        assert since - 3 <= told <= since + 3, "exposure grows with the clock"
        probed, told = oldest_missing_seconds(dev, f"{topic}-async", cut), exposure_seconds(dev, f"{topic}-async", cut)
        stale = staleness_seconds(dev, f"{topic}-async", cut)
        figure(f"oldest record missing in {cut}: {told:.1f} s by its leader, {probed:.1f} s by a probe, {stale:.1f} s there")
        assert told == pytest.approx(probed, rel=0.1, abs=0.5)
        assert stale == pytest.approx(probed, rel=0.1, abs=1), "both ends agree"
        assert staleness_seconds(dev, f"{topic}-async", other) < 3
        assert exposure_seconds(dev, f"{topic}-async", other) < 5
        dev.cli().link_heal(home, cut)
        wait.until("exposure gone", lambda: exposure_seconds(dev, f"{topic}-async", cut) < 2, 60)
        local.wait_acknowledged(100)
    for load, partitions in ((local, 2), (sync, 1)):
        assert load.failures() == []
        check(load.sends(), read_back(bootstraps(dev), load.topic, partitions), list(bootstraps(dev)))
        dumps.wait_same(dev, load.topic, partitions)


@pytest.mark.timeout(600)
def test_a_sync_topic_cut_off_from_every_other_datacenter_refuses_and_comes_back(own_dev, topic):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, isobar_replication="sync")
    leader, _ = kafka.leader(dev.kafka(1), topic)
    with wire.Connection(dev.kafka(leader)) as connection:
        assert wire.produce(connection, topic, 0, batch.encode([b"before"])) == (wire.NONE, 0)
        for dc in ("iad", "sin"):
            dev.cli().link_cut("fra", dc)
        answers = []

        def refuses():
            answers.append(wire.produce(connection, topic, 0, batch.encode([b"meanwhile"]), timeout_ms=1000)[0])
            return answers[-1] == wire.NOT_ENOUGH_REPLICAS

        wait.until(lambda: f"NOT_ENOUGH_REPLICAS, heard {answers}", refuses, 60)
        assert set(answers) <= RETRIABLE, answers
        for dc in ("iad", "sin"):
            dev.cli().link_heal("fra", dc)

        def accepts():
            return wire.produce(connection, topic, 0, batch.encode([b"after"]), timeout_ms=5000)[0] == wire.NONE

        wait.until("an acknowledgement after the heal", accepts, 60)
    values = [value for _, value in kafka.read(dev.bootstrap(), topic)]
    assert values[0] == b"before" and values[-1] == b"after"
    # What was appended before the refusal may be there; what was refused with 19 is not.
    assert values.count(b"meanwhile") <= sum(answer != wire.NOT_ENOUGH_REPLICAS for answer in answers)
    dumps.wait_same(dev, topic, 1)


def test_a_datacenter_out_of_reach_of_the_metas_leader_hears_of_changes_through_the_third(own_dev, topic):
    dev = own_dev()
    of_meta = lambda: dev.cli().json("cluster", "status")["controller"]
    here = dev.dc_of(of_meta())
    cut, third = [dc for dc in ("fra", "iad", "sin") if dc != here]
    dev.cli().link_cut(here, cut)
    # Made on this side of the cut, at home on the other, used from everywhere.
    kafka.create_topic(dev.bootstrap(here), topic, isobar_home=cut)
    leader, _ = kafka.leader(dev.kafka(dev.nodes(third)[0]), topic)
    assert dev.dc_of(leader) == cut
    with wire.Connection(dev.kafka(leader)) as connection:
        assert wire.produce(connection, topic, 0, batch.encode([b"beyond"])) == (wire.NONE, 0)
    kafka.wait_led(dev.bootstrap(cut), topic, 1)
    assert of_meta() in dev.nodes(here), "or there was no cut to get around"
    dev.cli().link_heal(here, cut)
    dumps.wait_same(dev, topic, 1)


@pytest.mark.timeout(300)
def test_what_has_not_passed_the_gate_is_shown_by_nobody(own_dev, topic):
    """On disk in iad, not in sin, and both are asked for: a consumer must see it nowhere."""
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, isobar_replication="sync", isobar_sync_to=2)
    kafka.send(dev.bootstrap(), topic, ["acknowledged"])
    leader, _ = kafka.leader(dev.kafka(1), topic)
    learner = dev.nodes("iad")[0]

    def shown(node):
        with wire.Connection(dev.kafka(node)) as connection:
            got = wire.fetch(connection, topic, 0, 0, wait_ms=100)
            return got["high_watermark"], len(batch.split(got["records"]))

    def has_it():
        ends = http.samples(dev.admin(learner), "isobar_log_end_offset", topic=topic, partition=0)
        return max(value for _, value in ends) == 2

    wait.until("the first record everywhere", lambda: shown(leader) == shown(learner) == (1, 1))
    dev.cli().link_cut("fra", "sin")
    dev.cli().link_cut("iad", "sin")
    with wire.Connection(dev.kafka(leader)) as connection:
        error, _ = wire.produce(connection, topic, 0, batch.encode([b"waits"]), timeout_ms=1000)
    assert error != wire.NONE
    wait.until("the second record on iad's disk", has_it)
    assert shown(learner) == (1, 1) and shown(leader) == (1, 1)
    dev.cli().link_heal("fra", "sin")
    dev.cli().link_heal("iad", "sin")
    wait.until("the second record for all", lambda: shown(leader) == shown(learner) == (2, 2), 60)


@pytest.mark.alone
@pytest.mark.timeout(BAD_LINK_SECONDS + 600)
def test_a_long_and_lossy_wan_elects_nobody(own_dev, topic, figure):
    dev, partitions = own_dev(), 6
    kafka.create_topic(dev.bootstrap(), topic, partitions)
    for a, b in (("fra", "iad"), ("iad", "sin"), ("fra", "sin")):
        dev.cli().link_set(a, b, rtt="200ms", loss="1%")

    def elections():
        return sum(
            value
            for node in dev.nodes()
            for _, value in http.samples(dev.admin(node), "isobar_raft_elections_total")
        )

    def epochs():
        table = wire.metadata(dev.kafka(1), [topic])["topics"][topic]["partitions"]
        return {number: (p["leader"], p["epoch"]) for number, p in table.items()}

    before, led = elections(), epochs()
    with Load(dev.bootstrap(), topic, partitions, rate=200) as load:
        began = time.monotonic()
        while time.monotonic() - began < BAD_LINK_SECONDS:
            load.wait_acknowledged(1, seconds=10)
            wait.for_seconds(1)
    figure(f"200 ms, 1 % loss, {BAD_LINK_SECONDS} s: {elections() - before:.0f} elections, {len(load.acknowledged())} acks")
    assert elections() == before
    assert epochs() == led
    check(load.sends(), read_back(bootstraps(dev), topic, partitions), list(bootstraps(dev)))


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_records_cross_the_wan_once_for_each_replica(own_dev, topic, figure):
    """Large batches on a long link: what is on its way already is not sent again."""
    dev, partitions, records = own_dev(), 12, 10_000
    kafka.create_topic(dev.bootstrap(), topic, partitions)

    def sent():
        return sum(value for _, value in http.samples(dev.admin(1), "isobar_wan_bytes_total"))

    def behind():
        told = [http.samples(dev.admin(n), "isobar_exposure_records", topic=topic) for n in dev.nodes("fra")]
        return sum(value for samples in told for _, value in samples)

    def send(values):
        for partition in range(partitions):
            kafka.send(dev.bootstrap(), topic, values, partition, linger_ms=50, batch_size=1 << 20)
        wait.until("everything everywhere", lambda: behind() == 0, 120)

    value = b"x" * 1024
    # A new leader probes: until a replica has answered, each heartbeat's answer lets it send the same again.
    send([value])
    before = sent()
    send([value] * (records // partitions))
    copies = (sent() - before) / (records * len(value))
    remote = len(dev.nodes("iad") + dev.nodes("sin"))
    figure(f"{records} records of 1 KiB: {copies:.1f} bytes on the WAN for each, {remote} replicas there")
    assert remote <= copies <= 1.5 * remote


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_link_is_no_wider_than_its_rate_and_what_waits_is_the_exposure(own_dev, topic, figure):
    """All three numbers of it (G6): what the other datacenter lacks is counted to the record, and goes."""
    dev, rate = own_dev(), 4e6
    kafka.create_topic(dev.bootstrap(), topic)
    kafka.send(dev.bootstrap(), topic, [b"first"])
    wait.until("no exposure", lambda: exposed(dev, topic, "iad") == (0, 0))
    dev.cli().link_cut("fra", "iad")
    values = [random.randbytes(1024) for _ in range(2000)]
    kafka.send(dev.bootstrap(), topic, values, linger_ms=50)
    lacks, size = exposed(dev, topic, "iad")
    assert lacks == len(values)
    assert len(values) * 1024 <= size <= len(values) * 1024 * 1.1
    wait.until("all in sin", lambda: exposed(dev, topic, "sin") == (0, 0))
    assert exposed(dev, topic, "iad")[0] == len(values)
    dev.cli().link_set("fra", "iad", rate=f"{rate / 1e6:.0f}Mbit")
    dev.cli().link_heal("fra", "iad")
    before, began = wan_bytes(dev, "fra", "iad"), time.monotonic()
    wait.until("all in iad", lambda: exposed(dev, topic, "iad") == (0, 0), 120)
    seconds = time.monotonic() - began
    came = (wan_bytes(dev, "fra", "iad") - before) * 8 / seconds
    figure(f"{len(values)} records of 1 KiB over {rate / 1e6:.0f} Mbit/s: {seconds:.1f} s; what came to the link: {came / 1e6:.1f} Mbit/s")
    # The datacenter has them when two of its three replicas do.
    assert seconds >= 2 * len(values) * 1024 * 8 / rate


def test_links_show_what_was_set(own_dev):
    dev = own_dev()
    dev.cli().link_set("fra", "iad", rtt="123ms", loss="2%", jitter="5ms", rate="50Mbit")
    shown = dev.cli().run("link", "show").stdout
    row = next(line for line in shown.splitlines() if "fra" in line and "iad" in line)
    for part in ("123", "2", "5", "50"):
        assert part in row, shown
    dev.cli().link_cut("sin", "fra")
    row = next(line for line in dev.cli(7).run("link", "show").stdout.splitlines() if "fra" in line and "sin" in line)
    assert "cut" in row


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_path_that_becomes_longer_carries_on(own_dev, topic, figure):
    """Another route, say: what one can expect of it is the delay, and not a thousandth of the rate."""
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, 6)
    size, count = 10_000, 3000
    # Links compress what can be compressed.
    values = [base64.b85encode(random.randbytes(size * 4 // 5)).decode() for _ in range(count // 6)]

    def fill():
        """Until every datacenter has it."""
        began = time.monotonic()
        for partition in range(6):
            kafka.send(dev.bootstrap(), topic, values, partition)
        there.append(count)
        wait.until("all of it everywhere", lambda: all(end_at(node) == sum(there) for node in dev.numbers()), 60)
        return count * size / 1e6 / (time.monotonic() - began)

    def end_at(node):
        return sum(end for _, end in http.samples(dev.admin(node), "isobar_high_watermark", topic=topic))

    rates, there = [], []
    for rtt in ("2ms", "100ms"):
        for away in ("iad", "sin"):
            dev.cli().link_set("fra", away, rtt=rtt)
        # Of the longer path the last ones, when what was measured of the shorter one is forgotten.
        rates.append([fill() for _ in range(3 if rtt == "2ms" else 8)][-3:])
    figure(" then ".join(f"{min(r):.1f} to {max(r):.1f} MB/s" for r in rates) + ", at a round trip of 2 ms then 100 ms")
    assert max(rates[1]) >= max(rates[0]) / 4, rates
