"""Between nodes: garbage and strangers get nothing, and are named."""

import random
import re
import shutil
import socket

import pytest

from harness import cli, http, kafka, topology, wait
from harness.process import Process

REFUSAL = re.compile(r"(?i)certificate|unknown issuer|unknownca|identity|refused")


def test_garbage_on_the_peer_port_harms_nobody(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    rng = random.Random(7)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for number in one.numbers():
            host, port = one.nodes[number].peer.split(":")
            for _ in range(500):
                # Among the garbage, what looks like the start of a QUIC long header.
                first = rng.choice([b"", b"\xc3\x00\x00\x00\x01", b"\xff"])
                out.sendto(first + rng.randbytes(rng.randrange(1400)), (host, int(port)))
    assert kafka.send(one.bootstrap(), topic, ["x"]) == [0]
    for number, process in one.processes.items():
        process.assert_alive()
        assert http.status(one.admin(number), "/healthz") == 200


def papers(directory, node):
    """A node's certificate and key, in this order of names in every directory."""
    found = sorted(path for path in (directory / "certs").iterdir() if re.match(rf"node-{node}\b", path.name))
    assert len(found) == 2, found
    return found


def test_start_refuses_the_impairment_of_links(cluster):
    one = cluster({"fra": 1, "iad": 1, "sin": 1})
    for args in (("cut", "fra", "iad"), ("set", "fra", "iad", "--rtt", "1s"), ("heal", "fra", "iad")):
        done = one.cli().run("link", *args, check=False)
        assert done.returncode != 0 and done.stderr.strip(), args


@pytest.mark.parametrize("whose", ["a foreign authority's", "another node's", "none"])
def test_a_peer_without_its_own_certificate_gets_nothing(whose, cluster, tmp_path, topic):
    """The last node starts with the wrong papers; the others refuse it by name and go on."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1}, start=False)
    stranger = max(one.numbers())
    file = one.topology
    mine = papers(one.directory, stranger)
    if whose == "a foreign authority's":
        # The same cluster by name, the same nodes, and certificates that only it believes in.
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        file = topology.write(foreign, one.nodes)
        cli.certs(file, foreign / "certs")
    elif whose == "another node's":
        for theirs, path in zip(papers(one.directory, 1), mine, strict=True):
            shutil.copy(theirs, path)
    else:
        for path in mine:
            path.unlink()
    honest = [n for n in one.numbers() if n != stranger]
    one.start(*honest)
    process = Process(cli.start(file, stranger), one.directory / "stranger.log")
    try:
        if whose != "a foreign authority's":
            # It can tell by itself: its papers do not say what it claims to be.
            assert process.wait_end(30) != 0
            assert re.search(r"(?i)cert", process.output()), process.tail()
        else:
            logs = [one.directory / f"node-{n}.log" for n in honest]

            def refused():
                return [log for log in logs if REFUSAL.search(log.read_text(errors="replace"))]

            wait.until("a log line that names the refusal", refused, 30)
            wait.for_seconds(3)
            assert not process.alive() or http.status(one.admin(stranger), "/readyz") != 200
    finally:
        process.kill9()
    kafka.create_topic(one.bootstrap("fra"), topic)
    assert kafka.send(one.bootstrap("fra"), topic, ["x"]) == [0]
    for number in honest:
        one.processes[number].assert_alive()
