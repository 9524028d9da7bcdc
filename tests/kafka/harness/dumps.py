"""The same bytes at the same offsets on every disk."""

import tomllib

from . import cli, wait


def wait_same(nodes_of, topic, partitions, seconds=120, without=()):
    """Waits until every node's dump of every partition is that of the first node, and not empty.

    HW reaches learners a moment after the leader, and the disk a second after that, so equality is
    waited for; once there, it is of whole logs.
    """
    nodes = [number for number in nodes_of.numbers() if number not in without]
    for partition in range(partitions):

        def different(partition=partition):
            dumps = {node: nodes_of.dump(node, topic, partition) for node in nodes}
            return [node for node in nodes if not dumps[node].strip() or dumps[node] != dumps[nodes[0]]]

        what = lambda: f"equal dumps of {topic}; nodes {different()} are empty or differ"
        # A node that comes back with an empty disk has no replica to dump until it is told of it.
        wait.until(what, lambda: not different(), seconds, 1.0, errors=(cli.Failed,))


def segments(nodes_of, node, topic):
    """The segment files of the topic's only partition on a node, oldest first."""
    for directory in (nodes_of.data_dir(node) / "partitions").iterdir():
        named = tomllib.loads((directory / "partition.toml").read_text())
        if named["topic"] == topic:
            return sorted(directory.glob("*.log"))
    raise AssertionError(f"node {node} has nothing of {topic}")
