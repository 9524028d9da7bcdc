"""The README's commands, as they stand there: a newcomer types them first."""

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from conftest import EXTERNAL
from harness import cli, http, kafka, wait
from harness.process import BIN, Process, environment

TOP = Path(__file__).resolve().parents[2]
PORTS = [*range(9092, 9101), *range(9640, 9649)]


def commands(heading):
    """The shell blocks below a heading of the README."""
    section = re.search(rf"(?ms)^## {heading}$(.*?)(?=^## )", (TOP / "README.md").read_text())[1]
    return [block.strip() for block in re.findall(r"(?ms)^```sh\n(.*?)^```", section)]


def taken(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_what_the_readme_says_to_try_works(tmp_path):
    if EXTERNAL:
        pytest.skip("needs Isobar, ISOBAR_BOOTSTRAP names another broker")
    if any(map(taken, PORTS)):
        pytest.skip("the default ports are taken on this machine")
    left = TOP / "isobar-data"
    if left.exists():
        pytest.skip(f"{left} is there: somebody's dev cluster")
    dev, *rest = commands("Try it")
    assert dev == "cargo run --release -- dev" and len(rest) >= 2
    # The build is not what is timed.
    subprocess.run(["cargo", "build", "--release"], cwd=TOP, check=True, capture_output=True)
    process = Process(dev.split(), tmp_path / "dev.log", cwd=TOP)
    try:

        def ready():
            process.assert_alive()
            return all(http.status(f"127.0.0.1:{9640 + n}", "/readyz") == 200 for n in range(9))

        wait.until(lambda: f"ready:\n{process.tail()}", ready, 15)
        printed = ""
        for block in rest:
            script = ["bash", "-euo", "pipefail", "-c", block]
            done = subprocess.run(script, cwd=TOP, env=environment(), capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
            printed += done.stdout
        assert "hello" in printed.splitlines()
        assert "isobar_exposure_seconds" in printed
        assert process.shut_down(signal.SIGINT) == 0
    finally:
        process.kill9()
        shutil.rmtree(left, ignore_errors=True)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_the_sample_file_starts_a_cluster_as_it_is(tmp_path, topic):
    """The README's commands, word for word, the last one for each node; in a copy, for they write beside the file (S25, S31)."""
    if EXTERNAL:
        pytest.skip("needs Isobar, ISOBAR_BOOTSTRAP names another broker")
    if any(map(taken, PORTS)):
        pytest.skip("the default ports are taken on this machine")
    data = Path("/tmp/isobar")
    if data.exists():
        pytest.skip(f"{data} is there: somebody's cluster")
    shutil.copytree(TOP / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("certs"))
    *before, start = commands("Run it on your machines")[0].splitlines()
    assert start.endswith("--node 1")
    path = {"PATH": f"{Path(BIN).resolve().parent}:{os.environ['PATH']}"}
    for command in before:
        done = subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=environment() | path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    nodes = []
    try:
        # One comes long before the others, and waits.
        for number in (9, 1, 2, 3, 4, 5, 6, 7, 8):
            args = start.removesuffix("1").split() + [str(number)]
            nodes.append(Process(args, tmp_path / f"node-{number}.log", env=path, cwd=tmp_path))

        def ready():
            for node in nodes:
                node.assert_alive()
            return all(http.status(f"127.0.0.1:{9640 + n}", "/readyz") == 200 for n in range(9))

        wait.until("nine nodes ready", ready, 60)
        kafka.create_topic("127.0.0.1:9092", f"payments.{topic}")
        assert kafka.send("127.0.0.1:9092", f"payments.{topic}", ["one"]) == [0]
        assert kafka.read("127.0.0.1:9100", f"payments.{topic}", rack="sin") == [(0, b"one")]
        shown = cli.run("topic", "describe", "--topic", f"payments.{topic}", "--json", "--admin", "127.0.0.1:9648").stdout
        assert "sync_to=1" in shown
        assert [node.shut_down() for node in nodes] == [0] * 9
    finally:
        for node in nodes:
            node.kill9()
        shutil.rmtree(data, ignore_errors=True)


def test_the_test_command_is_what_ci_runs():
    assert commands("Test it") == ["cargo test --release --workspace"]
    assert "cargo test --release --workspace\n" in (TOP / ".ci" / "run").read_text()
