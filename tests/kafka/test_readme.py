"""The README's commands, as they stand there: a newcomer types them first."""

import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from conftest import EXTERNAL
from harness import http, wait
from harness.process import Process, environment

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


def test_the_test_command_is_what_ci_runs():
    assert commands("Test it") == ["cargo test --release --workspace"]
    assert "cargo test --release --workspace\n" in (TOP / ".ci" / "run").read_text()
