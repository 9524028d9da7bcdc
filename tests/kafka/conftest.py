"""What the checks share. The binary under test is started by fixtures and gone when they end."""

import itertools
import os

import pytest

from harness import cluster as clusters
from harness.dev import Dev

LONG = os.environ.get("ISOBAR_LONG") == "1"
EXTERNAL = os.environ.get("ISOBAR_BOOTSTRAP", "")

_numbers = itertools.count(1)
_run = os.urandom(2).hex()


class External:
    """Any Kafka that runs already: what the checks themselves are checked against."""

    def bootstrap(self, dc="fra"):
        return EXTERNAL

    def kafka(self, node):
        return EXTERNAL.split(",")[0]

    def alive(self):
        return True


@pytest.fixture(scope="session")
def shared_dev(tmp_path_factory):
    if EXTERNAL:
        pytest.skip("needs Isobar, ISOBAR_BOOTSTRAP names another broker")
    dev = Dev(tmp_path_factory.mktemp("dev"))
    try:
        yield dev.start()
        dev.process.assert_alive()
        assert dev.process.trouble() == []
    finally:
        dev.close()


@pytest.fixture
def dev(shared_dev):
    """The dev cluster that most checks share. It must be alive after each of them."""
    shared_dev.process.assert_alive()
    yield shared_dev
    shared_dev.process.assert_alive()


@pytest.fixture
def own_dev(tmp_path):
    """Starts dev clusters whose links a check may shape; `start(topology=…)`."""
    if EXTERNAL:
        pytest.skip("needs Isobar, ISOBAR_BOOTSTRAP names another broker")
    started = []

    def start(topology=None):
        dev = Dev(tmp_path / f"dev-{len(started)}", topology)
        started.append(dev)
        return dev.start()

    yield start
    for dev in started:
        dev.close()
    assert [line for dev in started for line in dev.process.trouble()] == []


@pytest.fixture
def cluster(tmp_path):
    """Starts clusters of real processes: `cluster({"fra": 3, "iad": 1, "sin": 1})`."""
    if EXTERNAL:
        pytest.skip("needs Isobar, ISOBAR_BOOTSTRAP names another broker")
    made = []

    def make(per_dc=None, policy=(), start=True, settings=(), faulty_disks=False):
        made.append(clusters.Cluster(tmp_path / f"cluster-{len(made)}", per_dc, policy, settings, faulty_disks))
        return made[-1].start() if start else made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def broker(request):
    """Any Kafka at all: the shared dev cluster, or the broker that ISOBAR_BOOTSTRAP names."""
    return External() if EXTERNAL else request.getfixturevalue("dev")


@pytest.fixture
def topic(request):
    """A name that no other check uses, nor an earlier run against the same broker."""
    return f"t{next(_numbers)}-{_run}-{request.node.originalname.removeprefix('test_')[:60].replace('_', '-')}"


@pytest.fixture
def figure(request):
    """`figure(text)` shows a measurement at the end of the run, whether the check passed or not."""
    return lambda text: request.node.user_properties.append(("figure", text))


def pytest_collection_modifyitems(config, items):
    """Leaves out what is for `.ci/long` alone."""
    left_out = [item for item in items if item.get_closest_marker("long") and not LONG]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter):
    reports = itertools.chain.from_iterable(terminalreporter.stats.values())
    told = [text for report in reports if getattr(report, "when", "") == "call" for name, text in report.user_properties if name == "figure"]
    if told:
        terminalreporter.section("figures")
        for text in told:
            terminalreporter.write_line(f"figure: {text}")
