"""What a lost home had alone, read as a topic: by ordinary consumers, from any datacenter, and by nobody written."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from harness import batch, cli, clients, kafka, moves, wait, wire

TIME_MS = 1_700_000_000_000
INVALID_TOPIC_EXCEPTION = 17


def producers(bootstrap, topic):
    """One that compresses and one that does not, both connected: a home that is cut off takes records for its
    lease only, and dialling would use it up."""
    both = kafka.producer(bootstrap, linger_ms=0), kafka.producer(bootstrap, linger_ms=50, compression_type="gzip")
    for producer in both:
        producer.produce(topic, b"before", partition=1)
        assert producer.flush(30) == 0
    return both


def send(both, topic, count):
    """Records of partition 1 as their producers know them: `{offset: (key, value, timestamp, headers)}`."""
    sent, (plain, zipped) = {}, both
    for n in range(count):
        key = None if n % 3 == 0 else f"key-{n}".encode()
        headers = [("n", str(n).encode()), ("n", b"\0\xff"), ("none", None)] if n % 2 else []
        record = (key, f"beyond-{n}".encode() * (1 + n % 7), TIME_MS + n, headers)

        def delivered(error, message, record=record):
            assert error is None, error
            sent[message.offset()] = record

        producer = zipped if n >= count * 2 // 3 else plain
        producer.produce(topic, record[1], key, 1, on_delivery=delivered, timestamp=record[2], headers=headers)
        if n % 10 == 9:
            producer.flush(5)
    assert plain.flush(5) == 0 and zipped.flush(5) == 0
    assert len(sent) == count
    return sent


@pytest.fixture
def lost(own_dev, topic):
    """A topic of two partitions whose home was lost with records beyond the cut in partition 1, and is back:
    `(dev, name of its suffix, those records, the move)`."""
    dev = own_dev()
    kafka.create_topic(",".join(map(dev.kafka, dev.nodes())), topic, partitions=2)
    both = producers(dev.bootstrap("fra"), topic)
    for partition in range(2):
        kafka.send(dev.bootstrap(), topic, [b"before"] * 3, partition)
        exposed = lambda partition=partition: dev.cli(4).partition(topic, partition)["exposure"]
        wait.until("everything in iad", lambda: exposed().get("iad", {}).get("records") == 0, 30)
    dev.cli().link_cut("fra", "iad")
    dev.cli().link_cut("fra", "sin")
    sent = send(both, topic, 60)
    leads = lambda: dev.cli(4).json("cluster", "status")["controller"] not in (None, *dev.nodes("fra"))
    wait.until("a leader of __meta elsewhere", leads, 60)
    moves.move(dev.cli(4), "failover", "fra", "--to", "iad", "--topics", topic)
    moves.wait_led_in([dev.kafka(4)], topic, dev.nodes("iad"), 2)
    kafka.send(dev.bootstrap("iad"), topic, [b"after"] * 80, 1)
    dev.cli().link_heal("fra", "iad")
    dev.cli().link_heal("fra", "sin")

    def told():
        ended = dev.cli(4).json("dc", "history")["ended"]
        of_topic = {m["partition"]: m for m in ended if m["topic"] == topic}
        return of_topic if all(m["beyond_records"] is not None for m in of_topic.values()) else None

    ended = wait.until("the old home's disks read", told, 60)
    assert ended[0]["suffix_topic"] is None and ended[0]["beyond_records"] == 0
    name = ended[1]["suffix_topic"]
    assert re.fullmatch(rf"__suffix\.{re.escape(topic)}\.2\.[0-9a-f]{{8}}", name)
    assert name in dev.cli(4).run("dc", "history").stdout

    # The third replica of the old home may tell later, and each node hears of it in its own time.
    seen = {}

    def everywhere():
        ended = dev.cli(4).json("dc", "history")["ended"]
        (move,) = [m for m in ended if (m["topic"], m["partition"]) == (topic, 1)]
        tables = [wire.metadata(dev.kafka(n))["topics"].get(name) for n in dev.nodes()]
        seen.update(move=move, tables=tables)
        whole = len(move["ledgers"]) == 3 and tables[0] and all(one == tables[0] for one in tables)
        return move if whole and set(tables[0]["partitions"][1]["isr"]) == set(move["longest"]) else None

    return dev, name, sent, wait.until(lambda: f"a topic that every node tells the same of: {seen}", everywhere, 60)


def read(bootstrap, topic, end, **config):
    """`{offset: (key, value, timestamp, headers)}` of partition 1, from its start."""
    reader, found = kafka.consumer(bootstrap, **config), {}
    try:
        reader.assign([TopicPartition(topic, 1, 0)])

        def complete():
            for message in reader.consume(1000, timeout=0.2):
                assert not message.error(), message.error()
                record = (message.key(), message.value(), message.timestamp()[1], message.headers() or [])
                assert message.offset() not in found
                found[message.offset()] = record
            return end - 1 in found

        wait.until(lambda: f"offset {end - 1}, have {len(found)}", complete, 60, 0)
    finally:
        reader.close()
    return found


def with_kafka_python(bootstrap, topic, end):
    from kafka import KafkaConsumer
    from kafka import TopicPartition as Partition

    # Small fetches, so that there are many of a session.
    small = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
    reader, found = KafkaConsumer(bootstrap_servers=bootstrap.split(","), group_id=None, **small), {}
    at = Partition(topic, 1)
    try:
        reader.assign([at])
        reader.seek_to_beginning(at)

        def complete():
            for messages in reader.poll(500).values():
                for m in messages:
                    found[m.offset] = (m.key, m.value, m.timestamp, [tuple(h) for h in m.headers])
            return end - 1 in found

        wait.until(lambda: f"offset {end - 1}, have {len(found)}", complete, 60, 0)
    finally:
        reader.close()
    return found


def with_kcat(bootstrap, topic):
    line = r'{"offset":%o,"key_bytes":%K,"key":"%k","value":"%s","at":%T}\n'
    done = clients.kcat("-b", bootstrap, "-C", "-t", topic, "-p", 1, "-o", "beginning", "-e", "-q", "-f", line)
    rows = [json.loads(row) for row in done.stdout.splitlines()]
    key = lambda row: None if row["key_bytes"] < 0 else row["key"].encode()
    return {row["offset"]: (key(row), row["value"].encode(), row["at"]) for row in rows}


@pytest.mark.timeout(300)
def test_consumers_read_what_a_lost_home_had_alone(lost, figure):
    dev, name, sent, move = lost
    first, end = min(sent), max(sent) + 1
    assert sorted(sent) == list(range(first, end)) and first == move["cut_offset"]

    # Internal, and led by a node whose ledger counts.
    told = wire.metadata(dev.kafka(9), [name])["topics"][name]
    assert told["internal"] and told["error"] == wire.NONE and sorted(told["partitions"]) == [0, 1]
    assert set(told["partitions"][1]["replicas"]) == set(move["longest"])
    assert all(p["leader"] in move["longest"] for p in told["partitions"].values())

    # What the ledger has, by its own account.
    node = told["partitions"][1]["leader"]
    suffixes = json.loads(cli.run("ledger", "list", "--data-dir", dev.data_dir(node), "--json").stdout)
    (held,) = [s for s in suffixes if s["topic"] == move["topic"] and s["partition"] == 1]
    assert (held["first_offset"], held["next_offset"], held["records"]) == (first, end, len(sent))

    # From a datacenter that never had them.
    elsewhere = dev.bootstrap("sin")
    began = time.monotonic()
    assert read(elsewhere, name, end) == sent
    figure(f"{len(sent)} records of a suffix read from another DC in {time.monotonic() - began:.2f} s, the first time")
    assert read(elsewhere, name, end, client_rack="iad") == sent
    assert with_kafka_python(elsewhere, name, end) == sent
    assert with_kcat(elsewhere, name) == {offset: record[:3] for offset, record in sent.items()}

    # Positions, from any replica that has it; no other one serves it.
    for leader in move["longest"]:
        with wire.Connection(dev.kafka(leader)) as connection:
            ask = lambda timestamp: wire.list_offset(connection, name, 1, timestamp)
            assert ask(-2) == (wire.NONE, -1, first) and ask(-1) == (wire.NONE, -1, end)
            at = next(offset for offset, record in sent.items() if record[2] == TIME_MS + 17)
            assert ask(TIME_MS + 17) == (wire.NONE, TIME_MS + 17, at)
            assert ask(TIME_MS + 1000) == (wire.NONE, -1, -1)
            one = wire.fetch(connection, name, 1, at, max_bytes=1)
            assert (one["error"], one["high_watermark"], one["log_start"]) == (wire.NONE, end, first)
            ((base, last, _),) = batch.split(one["records"])
            assert base <= at <= last, "the first batch comes whole, and no other one"
            for outside in (first - 1, end + 1):
                assert wire.fetch(connection, name, 1, outside)["error"] == wire.OFFSET_OUT_OF_RANGE
            began = time.monotonic()
            waited = wire.fetch(connection, name, 1, end, wait_ms=300)
            assert (waited["error"], waited["records"]) == (wire.NONE, b"") and time.monotonic() - began >= 0.3
    with wire.Connection(dev.kafka(4)) as connection:
        assert wire.fetch(connection, name, 1, first)["error"] == wire.NOT_LEADER_OR_FOLLOWER
        assert wire.list_offset(connection, name, 1, -1)[0] == wire.NOT_LEADER_OR_FOLLOWER
    admin = kafka.admin(elsewhere)
    at = TopicPartition(name, 1)
    newest = admin.list_offsets({at: OffsetSpec.max_timestamp()})[at].result(30)
    assert newest.timestamp == TIME_MS + len(sent) - 1

    # A group reads it all and comes back to where it was; partition 0 has lost nothing.
    reader = kafka.consumer(elsewhere, group=f"of-{name}")
    assert len(set(reader.get_watermark_offsets(TopicPartition(name, 0), timeout=30))) == 1
    reader.subscribe([name])
    got = []

    def all_read():
        got.extend(m.offset() for m in reader.consume(100, timeout=0.5) if not m.error())
        return len(got) >= len(sent)

    wait.until(lambda: f"{len(sent)} records, have {len(got)}", all_read, 60, 0)
    assert got == sorted(sent)
    reader.commit(asynchronous=False)
    (committed,) = reader.committed([at], timeout=30)
    assert (committed.offset, committed.error) == (end, None)
    reader.close()

    # Who asks for every topic by a pattern does not get it.
    from kafka import KafkaConsumer

    by_pattern = KafkaConsumer(bootstrap_servers=elsewhere.split(","), group_id=f"all-{move['topic']}")
    by_pattern.subscribe(pattern=".*")
    subscribed = wait.until("a subscription", lambda: by_pattern.poll(200) is not None and by_pattern.subscription(), 60, 0)
    by_pattern.close()
    assert move["topic"] in subscribed and name not in subscribed
    if clients.has_java():
        listed = clients.java("TopicCommand", "--bootstrap-server", elsewhere, "--list").stdout.split()
        public = clients.java("TopicCommand", "--bootstrap-server", elsewhere, "--list", "--exclude-internal").stdout.split()
        described = clients.java("TopicCommand", "--bootstrap-server", elsewhere, "--describe").stdout
        assert name in listed and name not in public
        assert re.search(rf"Topic: {re.escape(name)}\s.*PartitionCount: 2\s", described)


def refusal(future):
    """The error that a request ends with."""
    with pytest.raises(KafkaException) as refused:
        future.result(30)
    return refused.value.args[0]


@pytest.mark.timeout(300)
def test_nobody_writes_or_changes_a_suffix_and_whoever_removes_it_removes_it(lost):
    dev, name, sent, move = lost
    end = max(sent) + 1
    errors = []
    producer = kafka.producer(dev.bootstrap("sin"))
    producer.produce(name, b"no", partition=1, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert [e.code() for e in errors] == [KafkaError.TOPIC_EXCEPTION]
    for node in (move["longest"][0], 4):
        with wire.Connection(dev.kafka(node)) as connection:
            assert wire.produce(connection, name, 1, batch.encode([b"no"]))[0] == INVALID_TOPIC_EXCEPTION

    admin = kafka.admin(dev.bootstrap("sin"))
    resource = ConfigResource(ResourceType.TOPIC, name)
    change = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change])
    new = f"{name}.again"
    refused = {
        "create": refusal(admin.create_topics([NewTopic(name, 1, -1)])[name]),
        "create another": refusal(admin.create_topics([NewTopic(new, 1, -1)])[new]),
        "delete": refusal(admin.delete_topics([name])[name]),
        "grow": refusal(admin.create_partitions([NewPartitions(name, 5)])[name]),
        "configure": refusal(admin.incremental_alter_configs([changed])[changed]),
        "delete records": refusal(admin.delete_records([TopicPartition(name, 1, end)])[TopicPartition(name, 1)]),
    }
    assert {what: error.code() for what, error in refused.items()} == dict.fromkeys(refused, KafkaError.TOPIC_EXCEPTION)
    for what in ("create", "create another", "grow", "configure"):
        assert "read-only" in refused[what].str(), what
    assert admin.describe_configs([resource])[resource].result(30)["retention.ms"].value == "-1"
    assert read(dev.bootstrap("iad"), name, end) == sent

    # A name that nobody has is no topic, and asking for it makes none.
    assert wire.metadata(dev.kafka(7), [new])["topics"][new]["error"] == wire.UNKNOWN_TOPIC_OR_PARTITION
    sender = kafka.producer(dev.bootstrap("sin"), message_timeout_ms=3000)
    sender.produce(new, b"no")
    assert sender.flush(10) == 0
    assert new not in wire.metadata(dev.kafka(7))["topics"]

    # Nobody is named who is not heard.
    leader = lambda node: wire.metadata(dev.kafka(node), [name])["topics"][name]["partitions"][1]["leader"]
    named = leader(7)
    dev.cli().link_cut("fra", "iad")
    dev.cli().link_cut("fra", "sin")
    wait.until("no leader in sin", lambda: leader(7) == -1, 30)
    assert leader(1) == named
    dev.cli().link_heal("fra", "iad")
    dev.cli().link_heal("fra", "sin")
    wait.until("the same leader again", lambda: leader(7) == named, 30)

    # Removed on every node that has it, by hand: gone, as a topic is that was deleted.
    for node in move["longest"]:
        with wire.Connection(dev.kafka(node)) as connection:
            assert wire.fetch(connection, name, 1, end - 1)["error"] == wire.NONE
            suffixes = json.loads(cli.run("ledger", "list", "--data-dir", dev.data_dir(node), "--json").stdout)
            for suffix in suffixes:
                if suffix["topic"] == move["topic"]:
                    shutil.rmtree(Path(suffix["dir"]))
            assert wire.fetch(connection, name, 1, end - 1)["error"] == wire.UNKNOWN_TOPIC_OR_PARTITION
            assert wire.list_offset(connection, name, 1, -1)[0] == wire.UNKNOWN_TOPIC_OR_PARTITION
    values = [value for _, value in kafka.read(dev.bootstrap("sin"), move["topic"], 1)]
    assert values == [b"before"] * 5 + [b"after"] * 80, "the topic itself has what it had"


@pytest.mark.timeout(300)
def test_a_suffix_is_read_on_while_one_node_that_has_it_is_left(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    home, (target,), (far,) = one.in_dc("fra"), one.in_dc("iad"), one.in_dc("sin")
    kafka.create_topic(one.bootstrap(), topic, partitions=2)
    both = producers(one.bootstrap("fra"), topic)
    wait.until("everything in iad", lambda: one.cli(1).partition(topic, 1)["exposure"].get("iad", {}).get("records") == 0, 30)
    one.kill9(target, far)
    sent = send(both, topic, 30)
    one.kill9(*home)
    one.start(target, far, ready=False)
    survivor = one.cli(target)
    wait.until("a leader of __meta", lambda: survivor.json("cluster", "status")["controller"] in (target, far), 60, errors=(cli.Failed,))
    moves.move(survivor, "failover", "fra", "--to", "iad", "--topics", topic)
    moves.wait_led_in([one.kafka(target)], topic, [target], 2)
    # A planned move asks the next home first, which has to have heard of the last one.
    table = lambda: wire.metadata(one.kafka(target), [topic])["topics"][topic]["partitions"]
    wait.until(lambda: f"sin in sync: {table()}", lambda: all(far in p["isr"] for p in table().values()), 30)
    # The old home is away during another move: what it lacks of the first it cuts for the second.
    moves.move(survivor, "switchover", "iad", "--to", "sin", "--topics", topic)
    one.start(*home)

    def told():
        ended = survivor.json("dc", "history")["ended"]
        (move,) = [m for m in ended if (m["topic"], m["partition"], m["home_epoch"]) == (topic, 1, 2)]
        return move if len(move["ledgers"]) == 3 else None

    move = wait.until("the old home's disks read", told, 60)
    name, end = move["suffix_topic"], max(sent) + 1

    def leader():
        found = wire.metadata(one.kafka(far), [name])["topics"][name]["partitions"]
        return found[1]["leader"] if found else None

    first = wait.until("a leader", lambda: leader() in move["longest"] and leader(), 30)
    assert read(one.kafka(far), name, end) == sent
    dead = [first]
    while len(dead) < len(move["longest"]):
        one.kill9(dead[-1])
        killed = time.monotonic()
        dead.append(wait.until("the next one named", lambda: leader() in set(move["longest"]) - set(dead) and leader(), 30))
        figure(f"the node that serves a suffix killed: {time.monotonic() - killed:.1f} s until the next is named in another DC")
        assert read(one.kafka(far), name, end) == sent
    # The last one is restarted, and has nothing in memory.
    one.kill9(dead[-1])
    one.start(dead[-1], ready=False)
    wait.until("the last one named again", lambda: leader() == dead[-1], 60)
    assert read(one.kafka(far), name, end) == sent
