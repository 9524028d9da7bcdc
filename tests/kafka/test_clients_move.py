"""Groups and producers go where a home goes, and what a lost home took with it is told to them."""

import contextlib
import json
import re
import time

import pytest
from confluent_kafka import KafkaError, TopicPartition

from harness import batch, clients, dumps, http, kafka, moves, wait, wire
from harness.load import Load, check, read_back
from harness.process import Process

DCS = ("fra", "iad", "sin")
PARTITIONS = 3
OFFSETS = "__consumer_offsets"
LINE = re.compile(r"Offset:(\d+)\t(\d+)$")


def everywhere(dev):
    return ",".join(dev.bootstrap(dc) for dc in DCS)


def bootstraps(dev):
    return {dc: dev.bootstrap(dc) for dc in DCS}


class Group:
    """A consumer group of one member that commits what it has read, and remembers where it was."""

    def __init__(self, bootstrap, topic, group):
        self.read = []
        self.consumer = kafka.consumer(bootstrap, group, session_timeout_ms=30_000, heartbeat_interval_ms=500)
        self.consumer.subscribe([topic])

    def poll(self):
        for message in self.consumer.consume(500, timeout=0.05):
            if not message.error():
                self.read.append((message.partition(), message.offset()))
                self.consumer.commit(message, asynchronous=False)

    def poll_more(self, more):
        enough = len(self.read) + more

        def polled():
            self.poll()
            return len(self.read) >= enough

        wait.until(lambda: f"{enough} records, have {len(self.read)}", polled, 60, 0)

    def close(self):
        self.consumer.close()
        return self.read


def positions(read):
    return {p: 1 + max(offset for q, offset in read if q == p) for p in {p for p, _ in read}}


@pytest.mark.timeout(180)
def test_a_group_goes_on_where_it_was_through_switchovers_there_and_back(own_dev, topic, figure):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, PARTITIONS)
    group, asked = f"{topic}-group", [TopicPartition(topic, p) for p in range(PARTITIONS)]
    read = []
    with Load(everywhere(dev), topic, PARTITIONS, rate=60) as load:
        member = Group(everywhere(dev), topic, group)
        member.poll_more(100)
        # Together, the offsets alone, and the topic alone: home and coordinator need not be in one place.
        for kind, left, args in (
            ("switchover", "fra", ("--to", "iad")),
            ("switchover", "iad", ("--to", "sin", "--topics", OFFSETS)),
            ("failback", "fra", ()),
        ):
            moves.move(dev.cli(), kind, left, *args)
            member.poll_more(60)
            if kind == "failback":
                continue
            # Another member takes up what was committed.
            left_at = member.close()
            read += left_at
            member = Group(everywhere(dev), topic, group)
            committed = {p.partition: p.offset for p in member.consumer.committed(asked, timeout=30)}
            assert committed == positions(read)
            member.poll_more(60)
        load.wait_acknowledged(20)
    member.poll_more(1)
    read += member.close()
    assert moves.home(dev.cli(), OFFSETS)[0] == moves.home(dev.cli(), topic)[0] == "fra"
    for partition in range(PARTITIONS):
        offsets = [offset for p, offset in read if p == partition]
        assert offsets == list(range(len(offsets))), "each record once, and in order"
    assert load.failures() == []
    check(load.sends(), read_back(bootstraps(dev), topic, PARTITIONS), list(DCS))
    figure(f"a group read {len(read)} records through three moves, each once; {len(load.acknowledged())} were acknowledged")


class Java:
    """One of Kafka's own tools, while it runs."""

    def __init__(self, log, tool, *args):
        main = f"org.apache.kafka.tools.{tool}"
        self.process = Process(["java", "-Xmx128m", "-cp", f"{clients.CLIENTS}/java/*", main, *args], log)

    def lines(self):
        return self.process.output().splitlines()

    def end(self):
        """As a person ends it: what is under way is answered first."""
        self.process.shut_down()


class JavaProducer(Java):
    """Kafka's VerifiableProducer; `acknowledged` is what it says that it was told: (offset, value)."""

    def __init__(self, directory, bootstrap, topic):
        config = directory / "producer.properties"
        config.write_text("retries=2147483647\nenable.idempotence=true\nretry.backoff.ms=50\nlinger.ms=0\n")
        super().__init__(
            directory / "producer.log", "VerifiableProducer", "--bootstrap-server", bootstrap, "--topic", topic,
            "--throughput", 50, "--command-config", config,
        )  # fmt: skip

    def _named(self, name):
        said = [json.loads(line) for line in self.lines() if line.startswith("{") and line.endswith("}")]
        return [line for line in said if line["name"] == name]

    def acknowledged(self):
        return [(line["offset"], line["value"].encode()) for line in self._named("producer_send_success")]

    def failures(self):
        return self._named("producer_send_error")

    def wait_acknowledged(self, more):
        enough = len(self.acknowledged()) + more
        wait.until(lambda: f"{enough} acknowledgements:\n{self.process.tail(10)}", lambda: len(self.acknowledged()) >= enough, 90)


class JavaConsumer(Java):
    """Kafka's ConsoleConsumer; `read` is what it prints: (offset, value)."""

    def __init__(self, directory, bootstrap, topic):
        super().__init__(
            directory / "consumer.log", "consumer.ConsoleConsumer", "--bootstrap-server", bootstrap, "--topic", topic,
            "--from-beginning", "--formatter-property", "print.offset=true",
        )  # fmt: skip

    def read(self):
        found = map(LINE.match, self.lines())
        return [(int(m[1]), m[2].encode()) for m in found if m]


def split(acknowledged, log, cut):
    """What was acknowledged and is not in the log, all of it beyond the cut; the rest is, where it was said to be."""
    lost = []
    for offset, value in acknowledged:
        if offset >= len(log) or log[offset] != value:
            assert offset >= cut, f"{value} at {offset} is gone, and the cut is {cut}"
            assert value not in log, f"{value} was acknowledged at {offset}, and is elsewhere"
            lost.append((offset, value))
    return lost


def once_and_in_order(log, number):
    numbers = [number(value) for value in log]
    assert numbers == sorted(set(numbers)), "no record twice, and none overtakes another"


@pytest.mark.timeout(300)
def test_clients_go_on_after_a_lost_home_took_acknowledged_records(own_dev, topic, tmp_path, figure):
    """The home goes on alone for its lease: producers are acknowledged, groups read that and commit it elsewhere."""
    assert clients.has_java(), "Java's clients recover in another way than librdkafka's: both are to be seen"
    dev = own_dev()
    spread, java = f"{topic}-spread", f"{topic}-java"
    # One replica a DC: a coordinator has that of one partition of three at the most.
    kafka.create_topic(dev.bootstrap(), spread, PARTITIONS, isobar_replicas="fra=1,iad=1,sin=1")
    kafka.create_topic(dev.bootstrap(), java)
    probed = f"{topic}-probed"
    kafka.create_topic(dev.bootstrap(), probed)
    asked = [TopicPartition(spread, p, 0) for p in range(PARTITIONS)]
    unix = time.time() - time.monotonic()
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(Load(everywhere(dev), spread, PARTITIONS, rate=90))
        producer = JavaProducer(tmp_path, everywhere(dev), java)
        stack.callback(producer.process.kill9)
        printer = JavaConsumer(tmp_path, everywhere(dev), java)
        stack.callback(printer.process.kill9)
        # One says which epoch it has read, as KIP-320 has it; the other one is of before.
        newer, older = (kafka.consumer(everywhere(dev), f"{topic}-{age}", auto_offset_reset="error") for age in ("newer", "older"))
        stack.callback(newer.close)
        stack.callback(older.close)
        newer.assign(asked)
        newest = {}

        def read():
            for message in newer.consume(1000, timeout=0.1):
                assert not message.error(), message.error()
                newest[message.partition()] = message

        def commit():
            """Where the position is, with its epoch and without."""
            for message in newest.values():
                newer.commit(message, asynchronous=False)
            ends = [TopicPartition(spread, p, message.offset() + 1) for p, message in newest.items()]
            older.commit(offsets=ends, asynchronous=False)
            return {p.partition: p.offset for p in ends}

        load.wait_acknowledged(60)
        producer.wait_acknowledged(50)
        wait.until("a record of each partition", lambda: read() or len(newest) == PARTITIONS, 30, 0)
        commit()
        moves.move(dev.cli(), "switchover", "fra", "--to", "iad", "--topics", OFFSETS)
        commit()
        leader, _ = kafka.leader(dev.kafka(1), probed)
        dev.cli().link_cut("fra", "iad")
        dev.cli().link_cut("fra", "sin")
        with wire.Connection(dev.kafka(leader)) as connection:

            def fenced():
                read()
                return wire.produce(connection, probed, 0, batch.encode([b"alone"]), timeout_ms=2000)[0] != wire.NONE

            wait.until("no acknowledgement without a lease", fenced, 60, 0.1)
        read()
        beyond = commit()
        ended = moves.move(dev.cli(4), "failover", "fra", "--to", "iad", "--topics", f"{topic}*")
        failed_over = time.monotonic()
        cuts = {(m["topic"], m["partition"]): m["cut_offset"] for m in ended}
        cut = {p: cuts[spread, p] for p in range(PARTITIONS)}
        assert {m["verdict"]["claim"] for m in ended} == {"unbounded_since"}
        since = {(m["topic"], m["partition"]): m["verdict"]["since_ms"] / 1000 for m in ended}
        assert all(beyond[p] > cut[p] for p in cut), "the groups had read on"

        for reader in (newer, older):
            committed = {p.partition: p.offset for p in reader.committed(asked, timeout=30)}
            assert committed == cut, f"led back to the cut, from {beyond}"
        clamped = sum(value for node in dev.nodes("iad") for _, value in http.samples(dev.admin(node), "isobar_kafka_offsets_clamped_total"))
        assert clamped >= 2 * PARTITIONS
        told = dev.cli(4).json("dc", "history")["groups"]["led_back"]
        of = lambda g: (g["group"], g["partition"], g["committed_offset"], g["end_offset"])
        expected = {(f"{topic}-{age}", p, beyond[p], cut[p]) for age in ("newer", "older") for p in cut}
        assert {of(g) for g in told if g["topic"] == spread} == expected, "told of, group by group"
        text = dev.cli(4).run("dc", "history").stdout
        assert "LED BACK" in text and f"{topic}-older" in text, text

        dev.cli().link_heal("fra", "iad")
        dev.cli().link_heal("fra", "sin")
        load.wait_acknowledged(90)
        producer.wait_acknowledged(100)

        truncated = set()

        def hears_of_it():
            for message in newer.consume(1000, timeout=0.1):
                # librdkafka's name for what `auto.offset.reset=error` makes of it.
                if message.error() and message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                    assert "log truncation detected" in message.error().str(), message.error()
                    truncated.add(message.partition())
            return len(truncated) == PARTITIONS

        wait.until(lambda: f"log truncation of every partition, have {truncated}", hears_of_it, 60, 0)
        resumed = kafka.consumer(everywhere(dev), f"{topic}-newer", auto_offset_reset="error")
        resumed.subscribe([spread])
        stack.callback(resumed.close)
        first = {}

        def resumes():
            for message in resumed.consume(1000, timeout=0.1):
                assert not message.error(), message.error()
                first.setdefault(message.partition(), message.offset())
            return len(first) == PARTITIONS

        wait.until(lambda: f"the group going on, have {first}", resumes, 60, 0)
        assert first == cut
        end = kafka.end_offset(everywhere(dev), java)
        wait.until("Java's consumer there", lambda: printer.read()[-1][0] >= end - 1, 60)
        producer.end()
    assert load.failures() == [] and producer.failures() == []

    counted = wait.until("the old home's disks read", lambda: history(dev, cuts), 60)
    lost = {}
    for partition in range(PARTITIONS):
        log = [value for _, value in kafka.read(everywhere(dev), spread, partition)]
        once_and_in_order(log, lambda value: int(value[:9]))
        sent = [send for send in load.acknowledged() if send.partition == partition]
        lost[spread, partition] = split([(s.offset, s.value.encode()) for s in sent], log, cut[partition])
        gone = {value for _, value in lost[spread, partition]}
        ended_at = [send.ended for send in sent if send.value.encode() in gone]
        assert max(ended_at) < failed_over
        # Words of the old home are 45 ms and more on their way: what it acknowledged meanwhile they do not cover.
        assert since[spread, partition] <= min(ended_at) + unix, "what is lost was acknowledged after the verdict's time"
    log = [value for _, value in kafka.read(everywhere(dev), java)]
    once_and_in_order(log, int)
    lost[java, 0] = split(producer.acknowledged(), log, cuts[java, 0])
    for place, gone in lost.items():
        assert gone, f"{place}: nothing was lost, so nothing was checked"
        assert len(gone) <= counted[place], f"{place}: more is gone than the ledger has"
    printed = printer.read()
    again = {offset: value for offset, value in dict(printed).items() if cuts[java, 0] <= offset < end}
    assert again == dict(enumerate(log[cuts[java, 0] : end], cuts[java, 0])), "read again from the cut on"
    steps = [b for (a, _), (b, _) in zip(printed, printed[1:], strict=False) if b != a + 1]
    assert steps == [cuts[java, 0]], "once back to the cut, and nothing skipped"
    dumps.wait_same(dev, java, 1)
    figure(
        f"{sum(map(len, lost.values()))} acknowledged records of two producers went with their home, {sum(counted[p] for p in lost)} are in its "
        f"ledger; both producers went on by themselves, and {clamped:.0f} answers with a committed offset beyond the cut were led back to it"
    )


def history(dev, cuts):
    ended = dev.cli(4).json("dc", "history")["ended"]
    counted = {(m["topic"], m["partition"]): m["beyond_records"] for m in ended if m["kind"] == "failover"}
    return counted if all(counted.get(place) is not None for place in cuts) else None
