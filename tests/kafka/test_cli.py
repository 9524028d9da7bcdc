"""The command line and the admin port, against what Kafka's own protocol says."""

import hashlib
import re

import pytest

from harness import batch, cli, http, kafka, ports, wait, wire


def test_list_nodes_equals_metadata(dev):
    listed = {node["id"]: node for node in dev.cli().json("cluster", "list-nodes")["nodes"]}
    brokers = wire.metadata(dev.kafka(1))["brokers"]
    assert set(listed) == set(brokers)
    assert {number: node["dc"] for number, node in listed.items()} == {n: b["rack"] for n, b in brokers.items()}
    table = dev.cli().run("cluster", "list-nodes").stdout
    assert all(re.search(rf"(?m)^\s*{n}\b.*\b{dev.dc_of(n)}\b", table) for n in dev.nodes()), table


def test_partition_info_equals_metadata_and_list_offsets(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic, partitions=2)
    kafka.send(dev.bootstrap(), topic, ["a", "b", "c"], partition=1)
    told = wire.metadata(dev.kafka(1), [topic])["topics"][topic]["partitions"][1]
    # Any node answers, for any partition.
    for node in (1, 4, 9):
        # Another datacenter hears of a topic half a round trip later, then of its leader, then of records.
        def known():
            info = dev.cli(node).partition(topic, 1)
            return info["leader"] is not None and info["high_watermark"] == 3 and info

        info = wait.until("known here", known, 10, errors=(cli.Failed,))
        assert (info["leader"], info["leader_epoch"]) == (told["leader"], told["epoch"])
        assert sorted(info["replicas"]) == sorted(told["replicas"])

        # Who is in sync grows while a new topic settles: both tell the same in the end.
        def agree():
            shown = wire.metadata(dev.kafka(1), [topic])["topics"][topic]["partitions"][1]["isr"]
            return sorted(dev.cli(node).partition(topic, 1)["isr"]) == sorted(shown)

        wait.until("the command line and Metadata agree on who is in sync", agree, 10)
        assert info["log_end_offset"] == 3


def test_what_is_not_there_is_an_error_with_a_name(dev):
    for args in (
        ("cluster", "partition-info", "--topic", "nowhere", "--partition", 0),
        ("topic", "describe", "--topic", "nowhere"),
    ):
        done = dev.cli().run(*args, check=False)
        assert done.returncode != 0
        assert "nowhere" in done.stderr, done.stderr


def test_topics_are_listed_and_described(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic, partitions=3, isobar_replication="sync")
    assert topic in {t["name"] for t in dev.cli().json("topic", "list")["topics"]}
    # Another datacenter hears of it half a round trip later.
    wait.until("listed in iad", lambda: topic in dev.cli(6).run("topic", "list").stdout, 5)
    described = dev.cli().run("topic", "describe", "--topic", topic).stdout
    assert re.search(r"isobar\.replication\s.*sync", described), described
    told = dev.cli().json("topic", "describe", "--topic", topic)
    assert len(told["partitions"]) == 3
    # And where each is from (G2).
    source = {config["name"]: config["source"] for config in told["configs"]}
    assert (source["isobar.replication"], source["isobar.home"]) == ("topic", "policy.default")


@pytest.mark.parametrize(
    "args", [("cluster", "status"), ("cluster", "list-nodes"), ("cluster", "isr-status"), ("topic", "list")]
)
def test_a_dead_address_is_a_failure(args, dev):
    dead = f"127.0.0.1:{ports.row(1)}"
    done = cli.run(*args, "--admin", dead, check=False)
    assert done.returncode != 0
    assert dead in done.stderr, "the message names the address"
    assert dev.cli().run(*args).returncode == 0
    dev.cli().json(*args)


def test_health_readiness_and_metrics_on_every_node(dev):
    for node in dev.nodes():
        assert http.status(dev.admin(node), "/healthz") == 200
        assert http.status(dev.admin(node), "/readyz") == 200
        text = http.text(dev.admin(node), "/metrics")
        assert re.search(r"(?m)^# TYPE isobar_\w+ (counter|gauge|histogram|summary)$", text)
    assert http.status(dev.admin(1), "/nothing-here") == 404


def test_request_metrics_move_with_requests(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic)
    leader, _ = kafka.leader(dev.kafka(1), topic)

    def produces():
        return sum(value for _, value in http.samples(dev.admin(leader), "isobar_kafka_requests_total", api="Produce"))

    before = produces()
    kafka.send(dev.bootstrap(), topic, ["x"])
    wait.until("one Produce more", lambda: produces() > before)


def test_exposure_is_told_by_partition_and_datacenter(dev, topic):
    kafka.create_topic(dev.bootstrap(), topic)
    kafka.send(dev.bootstrap(), topic, ["x"])
    leader, _ = kafka.leader(dev.kafka(1), topic)

    def dcs(what):
        found = http.samples(dev.admin(leader), f"isobar_exposure_{what}", topic=topic, partition=0)
        return {labels["dc"] for labels, _ in found}

    for what in ("seconds", "records", "bytes"):
        wait.until(f"exposure in {what}", lambda what=what: dcs(what) == {"iad", "sin"})


def test_links_are_shown_and_nonsense_is_refused(dev):
    shown = dev.cli().run("link", "show").stdout
    for a, b in (("fra", "iad"), ("iad", "sin"), ("fra", "sin")):
        assert re.search(rf"{a}.*{b}|{b}.*{a}", shown), shown
    for args in (
        ("set", "fra", "moon", "--rtt", "20ms"),
        ("set", "fra", "fra", "--rtt", "20ms"),
        ("set", "fra", "iad", "--rtt", "fast"),
        ("set", "fra", "iad", "--loss", "200%"),
        ("cut", "fra", "moon"),
    ):
        done = dev.cli().run("link", *args, check=False)
        assert done.returncode != 0 and done.stderr.strip(), args


def test_a_dump_shows_the_bytes_that_a_fetch_brings(dev, topic):
    """So that equal dumps mean equal bytes."""
    kafka.create_topic(dev.bootstrap(), topic)
    for n in range(5):
        kafka.send(dev.bootstrap(), topic, [f"{n}-{m} " * 50 for m in range(3)], compression_codec="zstd", linger_ms=50)
    leader, epoch = kafka.leader(dev.kafka(1), topic)
    with wire.Connection(dev.kafka(leader)) as connection:
        batches = batch.split(wire.fetch(connection, topic, 0, 0)["records"])
    assert batches[-1][1] == 14

    def dumped():
        lines = dev.dump(leader, topic, 0).splitlines()
        rows = [line for line in lines if re.search(r"[0-9a-f]{64}", line)]
        return len(rows) == len(batches) and rows

    for (base, last, data), row in zip(batches, wait.until("a row a batch", dumped), strict=True):
        assert hashlib.sha256(data).hexdigest() in row
        assert {str(base), str(last), str(epoch)} <= set(re.findall(r"\d+", row)), row
        assert "zstd" in row


def test_a_dump_of_nothing_is_an_error(dev, tmp_path):
    for directory, topic in ((dev.data_dir(1), "nowhere"), (tmp_path, "t")):
        done = cli.run("log", "dump", "--data-dir", directory, "--topic", topic, "--partition", 0, check=False)
        assert done.returncode != 0 and done.stderr.strip()
