"""A committed offset is kept when its coordinator dies at once (S27)."""

import contextlib
import threading

import pytest

from harness import kafka, wait, wire

ROUNDS = 5
OFFSETS, OFFSETS_PARTITIONS = "__consumer_offsets", 16


class Committer:
    """Commits one offset after the other, each when the last was acknowledged, until the coordinator is gone."""

    def __init__(self, address, group, topic, offset):
        self.acknowledged, self._ended = offset, threading.Event()
        self._connection, self._commits = wire.Connection(address), (group, topic, 0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while wire.commit_offset(self._connection, *self._commits, self.acknowledged + 1) == wire.NONE:
                self.acknowledged += 1
        except (OSError, wire.Closed):
            pass

    def end(self):
        self._thread.join(30)
        assert not self._thread.is_alive(), "neither an answer nor an end of the connection"
        return self.acknowledged


def coordinator(address, group):
    with wire.Connection(address) as connection:
        error, node = wire.find_coordinator(connection, group)
    return node if error == wire.NONE else None


def committed(one, asked, group, topic, dead):
    """What the coordinator that `asked` names has; None while there is none but the dead one."""
    node = coordinator(one.kafka(asked), group)
    if node in (None, dead):
        return None
    with wire.Connection(one.kafka(node)) as connection:
        error, offset = wire.committed_offset(connection, group, topic, 0)
    return (node, offset) if error == wire.NONE else None


@pytest.mark.timeout(180)
def test_a_commit_is_kept_when_its_coordinator_dies_at_once(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    witness, group = one.in_dc("iad")[0], f"{topic}-group"
    kafka.create_topic(one.bootstrap(), topic)
    first = lambda: coordinator(one.kafka(witness), group)
    node, offset, coordinators = wait.until("a coordinator", first, errors=(OSError,)), 0, []
    for _ in range(ROUNDS):
        kafka.wait_in_sync(one.kafka(witness), OFFSETS, OFFSETS_PARTITIONS)
        coordinators.append(node)
        commits = Committer(one.kafka(node), group, topic, offset)
        enough = offset + 100
        wait.until("a hundred commits", lambda commits=commits, enough=enough: commits.acknowledged >= enough, every=0.001)
        one.kill9(node)
        acknowledged, dead = commits.end(), node
        node, offset = wait.until(
            "a new coordinator that answers",
            lambda dead=dead: committed(one, witness, group, topic, dead),
            errors=(OSError, wire.Closed),
        )
        # The one that was under way may be there or not.
        assert offset in (acknowledged, acknowledged + 1), f"{acknowledged} was acknowledged, and {offset} is there"
        one.start(dead)
    figure(f"coordinators {coordinators} killed while they took commits: each of {offset} acknowledged ones is there")


@pytest.mark.timeout(120)
def test_a_commit_that_only_its_coordinator_has_is_not_acknowledged(cluster, topic):
    """Else it would be lost with it, as here."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    witness, group = one.in_dc("iad")[0], f"{topic}-group"
    kafka.create_topic(one.bootstrap(), topic)
    dead = wait.until("a coordinator", lambda: coordinator(one.kafka(witness), group), errors=(OSError,))
    others = [n for n in one.in_dc("fra") if n != dead]
    with wire.Connection(one.kafka(dead)) as connection:
        commit = lambda offset: wire.commit_offset(connection, group, topic, 0, offset)
        wait.until("the first commit", lambda: commit(1) == wire.NONE)
        for number in others:
            one.stop(number)
        connection.socket.settimeout(2)
        with contextlib.suppress(TimeoutError, wire.Closed):
            assert commit(2) != wire.NONE
        one.kill9(dead)
    for number in others:
        one.cont(number)
    _, offset = wait.until(
        "a new coordinator that answers", lambda: committed(one, witness, group, topic, dead), errors=(OSError, wire.Closed)
    )
    assert offset in (1, 2)
