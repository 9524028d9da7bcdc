"""Between nodes: garbage and strangers get nothing, and are named."""

import random
import re
import shutil
import socket

import pytest

from harness import cli, http, kafka, quic, topology, wait
from harness.process import Process

REFUSED = r"WARN .* refused a connection node=\d+ addr=\S+ error=.*"


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


def pair(directory, node):
    """Certificate, key."""
    return sorted(papers(directory, node), key=lambda path: "key" in path.name)


@pytest.fixture
def foreign(tmp_path):
    """The same cluster by name, the same nodes, and certificates that only it believes in."""

    def make(one):
        directory = tmp_path / "foreign"
        directory.mkdir()
        file = topology.write(directory, one.nodes)
        cli.certs(file, directory / "certs")
        return directory, file

    return make


def test_a_stranger_on_the_peer_port_is_told_off_and_named_in_the_log(cluster, foreign, topic):
    """By a QUIC client of its own, since our nodes would see by themselves that their papers are wrong (S10)."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    strangers, _ = foreign(one)
    at, theirs = one.nodes[1].peer, pair(one.directory, 2)
    for what, knocks, error in (
        ("no certificate", (None, quic.hello(2)), "peer sent no certificates"),
        ("of a foreign authority", (pair(strangers, 2), quic.hello(2)), "UnknownIssuer"),
        ("another's name", (theirs, quic.hello(3)), "says it is node 3, its certificate says 2"),
        ("another cluster's name", (theirs, quic.hello(2, cluster="others")), 'is of cluster "others", this node of "tests"'),
        ("no lane of ours", (theirs, quic.hello(2, lane=9)), "asks for lane 9, which is none"),
        ("no hello", (theirs, b"\x09"), "unknown first stream 9"),
        ("a hello that is none", (theirs, b"\x00\x00\x05hello"), "malformed hello"),
    ):
        _, why = quic.knock(at, *knocks)
        assert why is not None, f"{what}: still connected"
        line = f"{REFUSED}{re.escape(error)}"
        said = lambda line=line: re.search(line, one.processes[1].output())
        wait.until(lambda what=what, line=line: f"{what}: {line}\n{one.processes[1].tail(5)}", said, 10)
    answered, why = quic.knock(at, theirs, quic.hello(2))
    assert answered and why in (None, "superseded"), "with its own papers and name it is let in, until node 2 dials again"
    quic.begin_only(at, 300)
    assert kafka.send(one.bootstrap(), topic, ["x"]) == [0]
    # Others still get in: one that starts dials all of them.
    one.kill9(3)
    one.start(3)
    kafka.wait_in_sync(one.kafka(3), topic, 1)
    assert kafka.send(one.bootstrap(), topic, ["y"]) == [1]


def test_start_refuses_the_impairment_of_links(cluster):
    one = cluster({"fra": 1, "iad": 1, "sin": 1})
    for args in (("cut", "fra", "iad"), ("set", "fra", "iad", "--rtt", "1s"), ("heal", "fra", "iad")):
        done = one.cli().run("link", *args, check=False)
        assert done.returncode != 0 and done.stderr.strip(), args


@pytest.mark.parametrize("whose", ["a foreign authority's", "another node's", "none"])
def test_a_peer_without_its_own_certificate_gets_nothing(whose, cluster, foreign, topic):
    """The last node starts with the wrong papers; the others refuse it by name and go on."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1}, start=False)
    stranger = max(one.numbers())
    file = one.topology
    mine = papers(one.directory, stranger)
    if whose == "a foreign authority's":
        _, file = foreign(one)
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
                return [log for log in logs if re.search(f"{REFUSED}UnknownIssuer", log.read_text(errors="replace"))]

            wait.until("a log line that names the refusal", refused, 30)
            wait.for_seconds(3)
            assert not process.alive() or http.status(one.admin(stranger), "/readyz") != 200
    finally:
        process.kill9()
    kafka.create_topic(one.bootstrap("fra"), topic)
    assert kafka.send(one.bootstrap("fra"), topic, ["x"]) == [0]
    for number in honest:
        one.processes[number].assert_alive()
