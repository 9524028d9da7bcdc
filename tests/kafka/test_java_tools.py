"""Kafka's own command-line tools, as Kafka ships them."""

import re

import pytest

from harness import clients, kafka, records

pytestmark = pytest.mark.skipif(not clients.has_java(), reason="no Maven or no Java on this machine")


def test_console_producer_and_consumer(broker, topic):
    bootstrap, values = broker.bootstrap(), [records.line(n) for n in range(300)]
    clients.java("ConsoleProducer", "--bootstrap-server", bootstrap, "--topic", topic, lines=values)
    got = clients.java(
        "consumer.ConsoleConsumer", "--bootstrap-server", bootstrap, "--topic", topic, "--group", f"{topic}-group",
        "--from-beginning", "--max-messages", len(values), "--timeout-ms", 60_000,
    )  # fmt: skip
    assert sorted(got.stdout.splitlines()) == values
    described = clients.java(
        "consumer.group.ConsumerGroupCommand", "--bootstrap-server", bootstrap, "--describe", "--group", f"{topic}-group"
    ).stdout
    row = next(line.split() for line in described.splitlines() if topic in line.split())
    assert row[3:6] == ["300", "300", "0"], described


def test_topic_command(broker, topic):
    def topics(*args, **kwargs):
        return clients.java("TopicCommand", "--bootstrap-server", broker.bootstrap(), *args, **kwargs)

    topics("--create", "--topic", topic, "--partitions", 3, "--config", "retention.ms=3600000")
    described = topics("--describe", "--topic", topic).stdout
    assert "PartitionCount: 3" in described and "retention.ms=3600000" in described
    assert len(re.findall(r"Partition: \d\s+Leader: \d+", described)) == 3
    topics("--alter", "--topic", topic, "--partitions", 5)
    assert topic in topics("--list").stdout.split()
    assert topics("--create", "--topic", topic, check=False).returncode != 0
    topics("--delete", "--topic", topic)


@pytest.mark.alone
def test_performance_tools(broker, topic, figure):
    count, size = 100_000, 1024
    kafka.create_topic(broker.bootstrap(), topic, partitions=3)
    produced = clients.java(
        "ProducerPerformance", "--topic", topic, "--num-records", count, "--record-size", size, "--throughput", -1,
        "--producer-props", f"bootstrap.servers={broker.bootstrap()}", "acks=all", seconds=240,
    )  # fmt: skip
    summary = produced.stdout.strip().splitlines()[-1]
    assert summary.startswith(f"{count} records sent"), produced.stdout
    figure(f"ProducerPerformance acks=all, 1 KiB, dev cluster: {summary}")
    consumed = clients.java(
        "ConsumerPerformance", "--bootstrap-server", broker.bootstrap(), "--topic", topic, "--num-records", count,
        "--timeout", 60_000, seconds=240,
    )  # fmt: skip
    fields = consumed.stdout.strip().splitlines()[-1].split(", ")
    assert int(fields[4]) >= count, consumed.stdout
    figure(f"ConsumerPerformance: {fields[3]} MB/s, {fields[5]} records/s")


def test_verifiable_producer_is_acknowledged_every_record(broker, topic):
    done = clients.java(
        "VerifiableProducer", "--bootstrap-server", broker.bootstrap(), "--topic", topic, "--max-messages", 1000
    )
    assert '"sent":1000' in done.stdout and '"acked":1000' in done.stdout
    assert kafka.end_offset(broker.bootstrap(), topic) <= 1000


def test_get_offset_shell(broker, topic):
    kafka.create_topic(broker.bootstrap(), topic, partitions=2)
    kafka.send(broker.bootstrap(), topic, ["a", "b"], partition=1)
    shown = clients.java("GetOffsetShell", "--bootstrap-server", broker.bootstrap(), "--topic", topic).stdout
    assert shown.split() == [f"{topic}:0:0", f"{topic}:1:2"]
