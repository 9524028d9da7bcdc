"""One cluster, however it is started (S26). Wiped disks are `test_disks.py`'s."""

import shutil

import pytest

from conftest import LONG
from harness import http, kafka, wait, wire


def ids(one, *numbers):
    """The cluster id as each node tells it."""
    return {wire.metadata(one.kafka(number))["cluster"] for number in numbers or one.numbers()}


@pytest.mark.timeout(300)
def test_a_disk_of_another_bootstrap_does_not_join(cluster, topic, tmp_path):
    """The same topology and the same certificates, founded twice: each keeps to its own."""
    one = cluster({"fra": 1, "iad": 1, "sin": 1})
    (first,) = ids(one)
    kafka.create_topic(one.bootstrap(), topic)
    kafka.send(one.bootstrap(), topic, ["kept"])
    one.kill9(*one.numbers())
    one.start()
    assert ids(one) == {first}, "a restart founds nothing"
    one.kill9(*one.numbers())
    for number in one.numbers():
        shutil.move(one.data_dir(number), tmp_path / f"first-{number}")
    one.start()
    (second,) = ids(one)
    assert second != first
    one.kill9(*one.numbers())
    stranger = max(one.numbers())
    honest = [number for number in one.numbers() if number != stranger]
    for number in honest:
        one.wipe(number)
        shutil.move(tmp_path / f"first-{number}", one.data_dir(number))
    one.start(*honest)
    one.start(stranger, ready=False)

    def refused():
        said = "".join(process.output() for process in one.processes.values())
        return "they were set up as different clusters" in said

    wait.until("a log line that names the refusal", refused)
    wait.for_seconds(3)
    assert not one.processes[stranger].alive() or http.status(one.admin(stranger), "/readyz") != 200
    assert ids(one, *honest) == {first}
    assert kafka.read(one.bootstrap("fra"), topic) == [(0, b"kept")]
    assert kafka.send(one.bootstrap("fra"), topic, ["more"]) == [1]


@pytest.mark.timeout(900)
def test_nodes_start_in_any_order_however_far_apart(cluster, topic):
    """The first waits for a majority of `__meta`'s voters, and says so; it does not end (S25)."""
    one = cluster({"fra": 1, "iad": 1, "sin": 1}, start=False)
    first, *others = reversed(one.numbers())
    one.start(first, ready=False)
    wait.until("an admin port", lambda: http.status(one.admin(first), "/readyz") == 503)
    expected = {"ready": False, "missing": ["waiting for a majority of __meta's voters to answer"]}

    def waits():
        one.processes[first].assert_alive()
        assert http.refusal(one.admin(first), "/readyz") == expected

    wait.for_seconds(600 if LONG else 12, waits, every=1)
    one.start(*others)
    one.wait_ready()
    kafka.create_topic(one.bootstrap(), topic)
    assert kafka.send(one.bootstrap(), topic, ["all there"]) == [0]
    assert len(ids(one)) == 1
