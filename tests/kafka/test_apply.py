"""`isobar topology apply`: what it puts in force, what it refuses, and what outlives a restart."""

import itertools
import json

import pytest
from confluent_kafka.admin import NewTopic

from harness import cli, dumps, http, kafka, wait, wire
from harness import topology as topologies
from harness.process import Process

CLICKS = """
[policy.clicks]
topics = ["clicks.*"]
replicas = { fra = 1, iad = 1, sin = 1 }
partitions = 2
flush = "os"
"""


def proposal(one, name, *changes, more=""):
    """A changed copy of the cluster's file, beside it: paths of certificates are relative to it."""
    text = one.topology.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = one.directory / f"{name}.toml"
    path.write_text(text + more)
    return path


def generations(one):
    """By each node's metric, and by its answer to who asks for the topology."""
    told = {}
    for node in one.numbers():
        ((_, metric),) = http.samples(one.admin(node), "isobar_topology_generation")
        told[node] = {int(metric), json.loads(http.text(one.admin(node), "/v1/topology"))["generation"]}
    return told


def wait_generation(one, generation):
    what = lambda: f"generation {generation} on every node, have {generations(one)}"
    everywhere = {node: {generation} for node in one.numbers()}
    wait.until(what, lambda: generations(one) == everywhere, 30, errors=(OSError,))


def create_by_policy(bootstrap, topic):
    """With no number of partitions: the policy's."""
    new = NewTopic(topic, num_partitions=-1, replication_factor=-1)
    client = kafka.admin(bootstrap)
    client.create_topics([new], operation_timeout=30)[topic].result(60)


def replicas(one, topic):
    """How many each partition has, as every node tells it."""
    told = [wire.metadata(one.kafka(node), [topic])["topics"][topic]["partitions"] for node in one.numbers()]
    return [[len(partition["replicas"]) for _, partition in sorted(table.items())] for table in told]


def wait_replicas(one, topic, counts):
    what = lambda: f"replicas {counts} of {topic}, have {replicas(one, topic)}"
    wait.until(what, lambda: replicas(one, topic) == [counts] * len(one.numbers()), 30, errors=(OSError, AssertionError))


def config(one, topic, name, node=1):
    """`(value, where it comes from)`"""
    configs = one.cli(node).json("topic", "describe", "--topic", topic)["configs"]
    return next((entry["value"], entry["source"]) for entry in configs if entry["name"] == name)


@pytest.fixture
def small(cluster):
    return cluster({"fra": 3, "iad": 1, "sin": 1})


def test_an_applied_policy_holds_everywhere_and_after_a_restart(small, topic):
    one, before, after, later = small, f"clicks.{topic}.a", f"clicks.{topic}.b", f"clicks.{topic}.c"
    wait_generation(one, 1)
    create_by_policy(one.bootstrap(), before)
    wait_replicas(one, before, [5])
    file = proposal(one, "clicks", more=CLICKS)
    planned = one.cli().run("plan", file).stdout
    assert "changes to generation 1\n  + policy clicks (topics that match follow it from now on" in planned, planned
    assert planned.count("\n  + ") == 1 and "\n  - " not in planned and "\n  ~ " not in planned, planned

    # Nobody said yes.
    unasked = one.cli(4).run("topology", "apply", file, check=False)
    assert unasked.returncode != 0 and 'not applied: it takes "yes", or --yes' in unasked.stderr, unasked.stderr
    wait_generation(one, 1)

    # Not the node that leads `__meta`, whichever that is: any of them takes it.
    applied = one.cli(4).run("topology", "apply", file, "--yes")
    assert "the topology is of generation 2 now" in applied.stdout, applied.stdout
    assert f"home and replicas of topics that exist stay as they were placed: {before}" in applied.stderr
    wait_generation(one, 2)
    assert one.cli(5).run("plan", file).stdout.endswith("changes: none\n\n")
    create_by_policy(one.bootstrap(), after)
    wait_replicas(one, after, [3, 3])
    wait_replicas(one, before, [5])
    for name in (before, after):
        value, source = config(one, name, "isobar.flush", node=5)
        assert value == "os" and "clicks" in str(source), (name, value, source)

    # The file that the nodes were started with is still the old one: a proposal, and no longer what counts.
    one.kill9(*one.numbers())
    one.start()
    wait_generation(one, 2)
    create_by_policy(one.bootstrap(), later)
    wait_replicas(one, later, [3, 3])
    kafka.wait_led(one.bootstrap(), later, 2)
    assert kafka.send(one.bootstrap("fra"), later, ["x"], partition=1) == [0]


def test_what_cannot_be_applied_is_refused_by_name_and_changes_nothing(small, topic):
    one = small
    plain, own = f"{topic}-plain", f"{topic}-own"
    kafka.create_topic(one.bootstrap(), plain)
    kafka.create_topic(one.bootstrap(), own, isobar_replicas="fra=1,sin=1")
    default = "[policy.default]\n"
    node_3 = one.topology.read_text().split("[[node]]")[3].split("[[node]]")[0]
    assert "id = 3\n" in node_3
    refusals = {
        # By the plan, before anybody is asked.
        "renamed": (
            [('name = "tests"', 'name = "others"')],
            ["not applied:", "cluster name: the name is in every certificate"],
        ),
        "moved": ([('id = 3\ndc = "fra"', 'id = 3\ndc = "sin"'), ("fra = 3", "fra = 1")], ["not applied:", "node 3 dc:"]),
        # By the cluster, which knows the topics that exist.
        "sync": (
            [(default, f'{default}replication = "sync"\n')],
            ["it changes topics that exist between sync and async", own, plain],
        ),
        "gone": ([("[[node]]" + node_3, ""), ("fra = 3", "fra = 1")], ["node 3 is gone, and ", "replicas are placed on it"]),
        "unfit": ([('home = "fra"', 'home = "iad"')], [f'topic "{own}" would not fit: ', "isobar.replicas"]),
    }
    for name, (changes, words) in refusals.items():
        file = proposal(one, name, *changes)
        done = one.cli().run("topology", "apply", file, "--yes", check=False)
        said = done.stderr
        assert done.returncode != 0 and all(word in said for word in words), (name, done.stdout[-500:], said)
    # By its own mistakes, each with its line.
    file = proposal(one, "mistaken", (default, f'{default}colour = "blue"\n'))
    line = file.read_text().splitlines().index('colour = "blue"') + 1
    done = one.cli().run("topology", "apply", file, "--yes", check=False)
    assert done.returncode != 0 and f"line {line}: error: policy.default.colour: found" in done.stderr, done.stderr
    wait_generation(one, 1)
    # And what is right is still taken.
    file = proposal(one, "right", ('rtt = "1ms"', 'rtt = "2ms"'))
    assert "~ link fra–iad rtt: 1ms → 2ms" in one.cli().run("topology", "apply", file, "--yes").stdout
    wait_generation(one, 2)


def test_nodes_that_run_take_in_a_new_one_and_a_changed_link(small, topic):
    """Nobody is restarted: neither for the node nor for the link's compression."""
    one, new = small, topologies.Node(6, "fra")
    fields = 'between = ["fra", "iad"]\nrtt = "1ms"'
    changes = [(fields, fields + '\ncompression = "zstd"')]
    file = proposal(one, "grown", *changes, more="\n".join([*topologies.table(one.directory, new), ""]))
    planned = one.cli().run("plan", file).stdout
    assert "+ node 6 in fra (holds replicas of topics created from now on, and nothing is moved to it; the others speak with it at once)" in planned
    assert "~ link fra–iad compression: none → zstd (takes hold within seconds" in planned, planned

    # Nobody speaks to a node that the cluster does not have.
    one.nodes[6] = new
    cli.certs(file, one.directory / "certs")
    one.processes[6] = Process(cli.start(file, 6), one.directory / "node-6.log")
    refused = lambda: one.processes[6].output().count("node/6 is not in the topology") >= len(one.numbers()) - 1
    wait.until("refused by every node", refused, 30)
    assert http.status(one.admin(6), "/readyz") != 200

    one.cli(4).run("topology", "apply", file, "--yes")
    one.wait_ready()
    wait_generation(one, 2)
    kafka.create_topic(one.bootstrap(), topic, isobar_replicas="fra=4,iad=1,sin=1")
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    assert 6 in wire.metadata(one.kafka(5), [topic])["topics"][topic]["partitions"][0]["isr"]
    assert set(wire.metadata(one.kafka(5))["brokers"]) == {1, 2, 3, 4, 5, 6}

    # What goes over the link goes zipped, and the new node has it all.
    value, crossed = b"a line of a log that says little new " * 500, []

    def is_zipped():
        before = sent_to_iad(one)
        kafka.send(one.bootstrap("fra"), topic, [value] * 100)
        dumps.wait_same(one, topic, 1)
        crossed.append(sent_to_iad(one) - before)
        return 0 < crossed[-1] < 100 * len(value) / 4

    wait.until(lambda: f"fewer bytes from fra to iad than {crossed} for {100 * len(value)}", is_zipped, 30)


def sent_to_iad(one):
    told = itertools.chain(*(http.samples(one.admin(node), "isobar_link_sent_bytes_total") for node in one.in_dc("fra")))
    return sum(value for labels, value in told if labels["dc"] == "iad")
