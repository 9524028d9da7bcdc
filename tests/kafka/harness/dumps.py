"""The same bytes at the same offsets on every disk."""

import re
import tomllib

from . import cli, wait


def _end(dump):
    """The offset after the last record of a dump; 0 of an empty one."""
    last = re.findall(r"\blast=(\d+)", dump)
    return int(last[-1]) + 1 if last else 0


def wait_same(nodes_of, topic, partitions, seconds=120, without=()):
    """Waits until every node's dump of every partition is that of the first node, and has all that clients may see now.

    HW reaches learners a moment after the leader, and the disk a second after that, so equality is waited for.
    """
    nodes = [number for number in nodes_of.numbers() if number not in without]
    for partition in range(partitions):

        def watermark(partition=partition):
            # Not by a client: one with a group makes `__consumer_offsets`.
            told = nodes_of.cli(nodes[0]).partition(topic, partition)
            is_led = told["leader"] is not None and told["told_by"] == told["leader"]
            return is_led and told["high_watermark"] is not None and (told["high_watermark"],)

        (end,) = wait.until(f"a leader of {topic}-{partition}", watermark, errors=(cli.Failed,))

        def different(partition=partition, end=end):
            dumps = {node: nodes_of.dump(node, topic, partition) for node in nodes}
            short = {node for node in nodes if not dumps[node].strip() or _end(dumps[node]) < end}
            return [node for node in nodes if node in short or dumps[node] != dumps[nodes[0]]]

        what = lambda: f"equal dumps of {topic} up to {end}; nodes {different()} end before that or differ"
        # A node that comes back with an empty disk has no replica to dump until it is told of it.
        wait.until(what, lambda: not different(), seconds, 1.0, errors=(cli.Failed,))


def logs(nodes_of, node, topic):
    """The segment files of each of the topic's partitions on a node, oldest first."""
    for directory in (nodes_of.data_dir(node) / "partitions").iterdir():
        named = directory / "partition.toml"
        # Another one may be in the making.
        if named.exists() and tomllib.loads(named.read_text())["topic"] == topic:
            yield sorted(directory.glob("*.log"))


def segments(nodes_of, node, topic):
    """Those of the topic's only partition."""
    for files in logs(nodes_of, node, topic):
        return files
    raise AssertionError(f"node {node} has nothing of {topic}")
