"""Several data directories a node: partitions on all of them, and all of them or none."""

import re
import shutil

import pytest

from harness import cli, kafka, wait
from harness.process import Process

PARTITIONS = 6


class TwoDirs:
    """A cluster whose nodes have two data directories each."""

    def __init__(self, one):
        self.one = one
        text = one.topology.read_text()
        one.topology.write_text(re.sub(r'data_dirs = \["(.*)"\]', r'data_dirs = ["\1", "\1-b"]', text))

    def dirs(self, node):
        first = self.one.data_dir(node)
        return [first, first.with_name(f"{first.name}-b")]

    def numbers(self):
        return self.one.numbers()

    def dump(self, node, topic, partition):
        dirs = [part for path in self.dirs(node) for part in ("--data-dir", path)]
        return cli.run("log", "dump", *dirs, "--topic", topic, "--partition", partition).stdout

    def held(self, node):
        return [len(list((path / "partitions").iterdir())) for path in self.dirs(node)]


def wait_same(two, topic, records):
    """Every partition's dump is the same everywhere, and ends with the last record."""

    def same(partition):
        dumps = {two.dump(node, topic, partition) for node in two.numbers()}
        return len(dumps) == 1 and dumps.pop().count("\n") >= records

    for partition in range(PARTITIONS):
        wait.until(f"equal dumps of {topic}-{partition}", lambda partition=partition: same(partition), 60)


@pytest.mark.timeout(300)
def test_partitions_spread_over_the_directories_and_come_back(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1}, start=False)
    two = TwoDirs(one)
    one.start()
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    for partition in range(PARTITIONS):
        kafka.send(one.bootstrap("fra"), topic, [b"before"], partition)
    wait_same(two, topic, 1)
    for node in two.numbers():
        held = two.held(node)
        assert max(held) - min(held) <= 1 and sum(held) >= PARTITIONS, (node, held)
    one.kill9(*one.numbers())
    one.start()
    for partition in range(PARTITIONS):
        kafka.send(one.bootstrap("fra"), topic, [b"after"], partition)
        assert [v for _, v in kafka.read(one.bootstrap(), topic, partition)] == [b"before", b"after"]
    wait_same(two, topic, 2)


@pytest.mark.timeout(300)
def test_directories_may_be_named_at_the_start(cluster, topic, tmp_path):
    """`--data-dir`, once for each, in the place of the file's."""
    one = cluster({"fra": 1, "iad": 1, "sin": 1}, start=False)
    mine = [tmp_path / "a", tmp_path / "b"]
    flags = [part for path in mine for part in ("--data-dir", path)]
    one.processes[1] = Process([*cli.start(one.topology, 1), *flags], one.directory / "node-1.log")
    one.start(2, 3, ready=False).wait_ready()
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    for partition in range(PARTITIONS):
        kafka.send(one.bootstrap("fra"), topic, [b"x"], partition)
    held = [len(list((path / "partitions").iterdir())) for path in mine]
    assert min(held) >= PARTITIONS // 2, held
    assert not one.data_dir(1).exists(), "nothing is where the file says"
    dump = lambda: cli.run("log", "dump", *flags, "--topic", topic, "--partition", 0).stdout
    wait.until("the record on disk", lambda: dump().count("\n") == 1)
    before = dump()
    assert one.shut_down(1) == 0
    assert dump() == before, "of a node that is stopped, too"


@pytest.mark.timeout(300)
def test_a_node_whose_second_directory_was_emptied_does_not_start(cluster, topic):
    """Its replicas' votes are forgotten: they must not begin anew under their old ids."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1}, start=False)
    two = TwoDirs(one)
    one.start()
    kafka.create_topic(one.bootstrap(), topic, PARTITIONS)
    node = one.in_dc("fra")[1]
    assert one.shut_down(node) == 0
    _, second = two.dirs(node)
    kept = second.with_name("kept")
    second.rename(kept)
    refused = Process(cli.start(one.topology, node), one.directory / "refused.log")
    assert refused.wait_end() != 0
    assert "also had data directory" in refused.output(), refused.tail()
    shutil.rmtree(second, ignore_errors=True)
    kept.rename(second)
    one.start(node)
    kafka.wait_in_sync(one.kafka(node), topic, PARTITIONS)
