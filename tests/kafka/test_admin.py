"""Topics, configs, partitions and records through an ordinary AdminClient."""

import re

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AclOperation,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from harness import batch, dumps, http, kafka, wait, wire


def refused(future, seconds=30):
    with pytest.raises(KafkaException) as caught:
        future.result(seconds)
    return caught.value.args[0].code()


def configs(admin, topic):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return admin.describe_configs([resource])[resource].result(30)


def alter(admin, topic, **entries):
    changes = [
        ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for key, value in entries.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
    return admin.incremental_alter_configs([resource])[resource]


def test_a_topic_comes_and_goes_everywhere(broker, topic):
    admin = kafka.admin(broker.bootstrap())
    kafka.create_topic(broker.bootstrap(), topic, partitions=4)
    addresses = [b["address"] for b in wire.metadata(broker.kafka(1))["brokers"].values()]

    def seen():
        found = [wire.metadata(address, [topic])["topics"][topic] for address in addresses]
        return found if all(sorted(t["partitions"]) == [0, 1, 2, 3] for t in found) else None

    # The answer says that it is decided; another datacenter hears it half a round trip later.
    tables = wait.until("listed by every node", seen, 5)
    for table in tables:
        placed = {n: p["replicas"] for n, p in table["partitions"].items()}
        assert placed == {n: p["replicas"] for n, p in tables[0]["partitions"].items()}
        assert all(len(set(replicas)) == len(replicas) for replicas in placed.values())

    admin.delete_topics([topic])[topic].result(30)

    def gone():
        return all(topic not in wire.metadata(address)["topics"] for address in addresses)

    wait.until("gone from every node", gone)


def test_what_cannot_be_created_is_refused_and_changes_nothing(broker, topic):
    admin = kafka.admin(broker.bootstrap())
    kafka.create_topic(broker.bootstrap(), topic)

    def create(name, partitions=1, replicas=-1, config=None):
        new = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=config or {})
        return refused(admin.create_topics([new])[name])

    assert create(topic) == KafkaError.TOPIC_ALREADY_EXISTS
    assert create("no/slash") == KafkaError.TOPIC_EXCEPTION
    assert create("a" * 250) == KafkaError.TOPIC_EXCEPTION
    assert create(f"{topic}-x", config={"no.such.key": "1"}) == KafkaError.INVALID_CONFIG
    assert create(f"{topic}-x", config={"retention.ms": "soon"}) == KafkaError.INVALID_CONFIG
    assert f"{topic}-x" not in wire.metadata(broker.kafka(1))["topics"]

    valid = NewTopic(f"{topic}-x", num_partitions=1, replication_factor=-1)
    admin.create_topics([valid], validate_only=True)[f"{topic}-x"].result(30)
    assert f"{topic}-x" not in wire.metadata(broker.kafka(1))["topics"]
    assert refused(admin.delete_topics([f"{topic}-y"])[f"{topic}-y"]) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_configs_are_described_and_altered(broker, topic):
    admin = kafka.admin(broker.bootstrap())
    kafka.create_topic(broker.bootstrap(), topic, retention_ms=3_600_000)
    assert configs(admin, topic)["retention.ms"].value == "3600000"
    alter(admin, topic, retention_ms="7200000").result(30)

    def seen():
        return configs(admin, topic)["retention.ms"].value == "7200000"

    wait.until("the new value shown", seen)
    assert refused(alter(admin, topic, retention_ms="never")) == KafkaError.INVALID_CONFIG
    assert refused(alter(admin, topic, no_such_key="1")) == KafkaError.INVALID_CONFIG
    assert configs(admin, topic)["retention.ms"].value == "7200000"


def test_altered_as_a_whole_a_topic_keeps_only_what_is_named(broker, topic):
    """AlterConfigs (33), which IncrementalAlterConfigs replaced in clients that are newer."""
    admin = kafka.admin(broker.bootstrap())
    kafka.create_topic(broker.bootstrap(), topic, retention_ms=3_600_000, segment_bytes=1 << 20)
    shown = lambda: {key: configs(admin, topic)[key].value for key in ("retention.ms", "segment.bytes")}
    as_created = {"retention.ms": "3600000", "segment.bytes": str(1 << 20)}
    wait.until("the configs of its creation", lambda: shown() == as_created)
    with wire.Connection(broker.kafka(1)) as connection:
        alter_all = lambda **kwargs: wire.alter_configs(connection, topic, **kwargs)
        assert alter_all(configs={"retention.ms": "7200000"}, validate_only=True) == wire.NONE
        assert alter_all(configs={"retention.ms": "never"}) == wire.INVALID_CONFIG
        assert alter_all(configs={"retention.ms": "7200000", "no.such.key": "1"}) == wire.INVALID_CONFIG
        assert shown() == as_created
        assert alter_all(configs={"retention.ms": "7200000"}) == wire.NONE
    wait.until(lambda: f"the new configs: {shown()}", lambda: shown() == {"retention.ms": "7200000", "segment.bytes": str(1 << 30)})


def synced_files(dev, node, topic):
    """How many files the node syncs while a hundred produces to the topic are acknowledged, one by one."""
    count = lambda: sum(value for _, value in http.samples(dev.admin(node), "isobar_disk_files_synced_total"))
    with wire.Connection(dev.kafka(node)) as connection:
        before = count()
        for n in range(100):
            assert wire.produce(connection, topic, 0, batch.encode([b"%d" % n])) == (wire.NONE, n)
        return count() - before


def test_a_topic_that_leaves_syncing_to_the_system_says_so_and_does_not_sync(dev, topic, figure):
    admin = kafka.admin(dev.bootstrap())
    synced = {}
    for flush in ("quorum", "os"):
        name = f"{topic}-{flush}"
        kafka.create_topic(dev.bootstrap(), name, isobar_flush=flush)
        assert configs(admin, name)["isobar.flush"].value == flush
        described = dev.cli().run("topic", "describe", "--topic", name).stdout
        assert re.search(rf"(?m)^isobar\.flush +{flush} +topic$", described), described
        synced[flush] = synced_files(dev, kafka.leader(dev.kafka(1), name)[0], name)
        assert [value for _, value in kafka.read(dev.bootstrap(), name)] == [b"%d" % n for n in range(100)]
        dumps.wait_same(dev, name, 1)
    figure(f"100 produces, one by one: files synced on their leader {synced}")
    # The other two voters are a majority: the leader may sync some of them together.
    assert synced["os"] < 10 < 30 < synced["quorum"]
    new = NewTopic(f"{topic}-sync", 1, -1, config={"isobar.replication": "sync", "isobar.flush": "os"})
    assert refused(admin.create_topics([new])[f"{topic}-sync"]) == KafkaError.INVALID_CONFIG


def test_replication_is_a_topic_config(dev, topic):
    admin = kafka.admin(dev.bootstrap())
    kafka.create_topic(dev.bootstrap(), topic, isobar_replication="sync")
    assert configs(admin, topic)["isobar.replication"].value == "sync"
    kafka.create_topic(dev.bootstrap(), f"{topic}-2")
    assert configs(admin, f"{topic}-2")["isobar.replication"].value == "async"
    assert refused(alter(admin, topic, isobar_replication="sometimes")) == KafkaError.INVALID_CONFIG
    assert refused(alter(admin, topic, isobar_home="moon")) == KafkaError.INVALID_CONFIG


def test_partitions_are_added_and_never_taken(broker, topic):
    admin = kafka.admin(broker.bootstrap())
    kafka.create_topic(broker.bootstrap(), topic, partitions=2)
    kafka.send(broker.bootstrap(), topic, ["kept"], partition=1)
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    kafka.wait_led(broker.bootstrap(), topic, 5)
    assert kafka.send(broker.bootstrap(), topic, ["new"], partition=4) == [0]
    assert kafka.read(broker.bootstrap(), topic, 1) == [(0, b"kept")]
    assert refused(admin.create_partitions([NewPartitions(topic, 3)])[topic]) == KafkaError.INVALID_PARTITIONS


def test_deleted_records_are_gone_and_the_rest_stays(broker, topic):
    admin = kafka.admin(broker.bootstrap())
    kafka.create_topic(broker.bootstrap(), topic)
    kafka.send(broker.bootstrap(), topic, [f"v{n}" for n in range(20)], linger_ms=0)
    kafka.send(broker.bootstrap(), topic, [f"v{n}" for n in range(20, 30)])
    # The client asks any node who leads; one in another datacenter hears of a topic a little later.
    addresses = [b["address"] for b in wire.metadata(broker.kafka(1))["brokers"].values()]
    kafka.wait_led(",".join(addresses), topic, 1)
    asked = TopicPartition(topic, 0, 15)
    assert admin.delete_records([asked])[asked].result(30).low_watermark == 15
    earliest = admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.earliest()})
    assert [f.result(30).offset for f in earliest.values()] == [15]
    kept = kafka.read(broker.bootstrap(), topic, start=15)
    assert kept == [(n, f"v{n}".encode()) for n in range(15, 30)]
    beyond = TopicPartition(topic, 0, 99)
    assert refused(admin.delete_records([beyond])[beyond]) == KafkaError.OFFSET_OUT_OF_RANGE


def test_the_cluster_describes_itself(broker):
    admin = kafka.admin(broker.bootstrap())
    described = admin.describe_cluster().result(30)
    brokers = wire.metadata(broker.kafka(1))["brokers"]
    assert {node.id: f"{node.host}:{node.port}" for node in described.nodes} == {
        number: one["address"] for number, one in brokers.items()
    }
    assert described.controller.id in brokers
    assert described.cluster_id == wire.metadata(broker.kafka(1))["cluster"]


def test_a_client_may_ask_what_it_is_allowed_to_do(broker, topic):
    """KIP-430. Nobody is authenticated here, so everybody may do all that can be done to such a thing."""
    kafka.create_topic(broker.bootstrap(), topic)
    admin = kafka.admin(broker.bootstrap())
    everything = {one.name for one in AclOperation} - {"UNKNOWN", "ANY", "ALL"}
    of_clusters = {"CREATE", "ALTER", "DESCRIBE", "CLUSTER_ACTION", "DESCRIBE_CONFIGS", "ALTER_CONFIGS", "IDEMPOTENT_WRITE"}

    def asked(described):
        return {one.name for one in described.authorized_operations or ()}

    cluster, topics = admin.describe_cluster, admin.describe_topics
    assert asked(cluster(include_authorized_operations=True).result(30)) == of_clusters
    assert asked(topics(TopicCollection([topic]), include_authorized_operations=True)[topic].result(30)) == (
        everything - {"CLUSTER_ACTION", "IDEMPOTENT_WRITE"}
    )
    assert asked(cluster().result(30)) == asked(topics(TopicCollection([topic]))[topic].result(30)) == set()


def test_a_broker_tells_where_it_is(dev):
    for node in (1, 9):
        resource, admin = ConfigResource(ResourceType.BROKER, str(node)), kafka.admin(dev.kafka(node))
        found = admin.describe_configs([resource])[resource].result(30)
        assert found["advertised.listeners"].value == f"clients://{dev.kafka(node)}"
        assert found["broker.rack"].value == dev.dc_of(node)
        assert found["node.id"].value == found["broker.id"].value == str(node)


def test_brokers_carry_their_datacenter_as_rack(dev):
    brokers = wire.metadata(dev.kafka(5))["brokers"]
    assert {number: one["rack"] for number, one in brokers.items()} == {n: dev.dc_of(n) for n in dev.nodes()}


def test_replicas_stand_in_every_datacenter_and_leaders_at_home(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic, partitions=6)
    table = wire.metadata(dev.kafka(1), [topic])["topics"][topic]["partitions"]
    for partition in table.values():
        assert sorted(partition["replicas"]) == dev.nodes()
        assert dev.dc_of(partition["leader"]) == "fra"
