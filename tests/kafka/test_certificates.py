"""The authority of a running cluster is replaced, and every certificate with it, and no node is restarted for it."""

import re
import shutil

import pytest

from harness import cli, dumps, kafka, quic, topology, wait
from harness.load import Load, check, read_back


def wait_replaced(one, times):
    """Until each node has said so often that it took new files."""

    def missing():
        return [n for n in one.numbers() if one.processes[n].output().count("certificates replaced") < times]

    wait.until(lambda: f"certificates replaced at nodes {missing()}", lambda: not missing(), 60)


@pytest.mark.timeout(300)
def test_a_new_authority_takes_over_while_the_cluster_runs(cluster, tmp_path, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, isobar_replication="sync")
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    (tmp_path / "next").mkdir()
    cli.certs(topology.write(tmp_path / "next", one.nodes), tmp_path / "next" / "certs")
    files, later, before = one.directory / "certs", tmp_path / "next" / "certs", tmp_path / "before"
    shutil.copytree(files, before)
    running = {n: process.pid for n, process in one.processes.items()}
    with Load(one.bootstrap(), topic, rate=100) as load:
        load.wait_acknowledged(50)
        # Both are believed in while the nodes change over.
        (files / "ca.pem").write_text((before / "ca.pem").read_text() + (later / "ca.pem").read_text())
        wait_replaced(one, 1)
        for path in later.iterdir():
            if re.match(r"node-\d+", path.name):
                shutil.copy(path, files / path.name)
        wait_replaced(one, 2)
        shutil.copy(later / "ca.pem", files / "ca.pem")
        wait_replaced(one, 3)
        load.wait_acknowledged(50)
        assert {n: process.pid for n, process in one.processes.items()} == running
        # Who has the old papers only gets nothing any more; who has the new ones comes in.
        old = before / "node-2.pem", before / "node-2-key.pem"
        answered, why = quic.knock(one.nodes[1].peer, old, quic.hello(2))
        assert not answered and "UnknownIssuer" in why, why
        one.kill9(3)
        one.start(3)
        kafka.wait_in_sync(one.kafka(3), topic, 1)
        load.wait_acknowledged(50)
    assert load.failures() == []
    places = {dc: one.bootstrap(dc) for dc in ("fra", "iad", "sin")}
    check(load.sends(), read_back(places, topic, 1), list(places))
    dumps.wait_same(one, topic, 1)
