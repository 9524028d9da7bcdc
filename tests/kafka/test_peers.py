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
    certs = one.directory / "certs"
    mine = [certs / f"node-{stranger}.pem", certs / f"node-{stranger}.key"]
    if whose == "a foreign authority's":
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        cli.certs(topology.write(foreign, one.nodes), foreign / "certs")
        for path in mine:
            shutil.copy(foreign / "certs" / path.name, path)
    elif whose == "another node's":
        shutil.copy(certs / "node-1.pem", mine[0])
        shutil.copy(certs / "node-1.key", mine[1])
    else:
        for path in mine:
            path.unlink()
    honest = [n for n in one.numbers() if n != stranger]
    one.start(*honest)
    process = Process(cli.start(one.topology, stranger), one.directory / "stranger.log")
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
