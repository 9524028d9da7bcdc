"""`isobar dev`: three DCs, nine nodes and the WAN between them in one process."""

import shutil
import signal
from pathlib import Path

from . import cli, http, ports, wait
from .process import Process

DCS = ("fra", "iad", "sin")
NODES_PER_DC = 3
NODES = range(1, len(DCS) * NODES_PER_DC + 1)
READY_SECONDS = 60


class Dev:
    def __init__(self, directory, topology=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / "data"
        self.topology = topology
        self.kafka_port, self.admin_port = ports.row(len(NODES)), ports.row(len(NODES))
        self.process = None

    def start(self, fresh=True, ready=True):
        args = cli.dev(self.data, self.kafka_port, self.admin_port, self.topology, fresh)
        self.process = Process(args, self.directory / "dev.log")
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds=READY_SECONDS):
        def ready():
            self.process.assert_alive()
            return not self.unready()

        wait.until(lambda: f"nodes {self.unready()} ready:\n{self.process.tail()}", ready, seconds, 0.1)

    def unready(self):
        return [node for node in NODES if http.status(self.admin(node), "/readyz") != 200]

    def shut_down(self):
        """Ctrl-C, as a person would."""
        return self.process.shut_down(signal.SIGINT)

    def close(self):
        """Ends the process, however it is doing, and drops its data."""
        if self.process:
            self.process.kill9()
        shutil.rmtree(self.data, ignore_errors=True)

    def kafka(self, node):
        return f"127.0.0.1:{self.kafka_port + node - 1}"

    def admin(self, node):
        return f"127.0.0.1:{self.admin_port + node - 1}"

    def cli(self, node=1):
        return cli.Admin(self.admin(node))

    def numbers(self):
        return list(NODES)

    def nodes(self, dc=None):
        if dc is None:
            return self.numbers()
        first = DCS.index(dc) * NODES_PER_DC + 1
        return list(range(first, first + NODES_PER_DC))

    def dc_of(self, node):
        return DCS[(node - 1) // NODES_PER_DC]

    def bootstrap(self, dc="fra"):
        return ",".join(self.kafka(node) for node in self.nodes(dc))

    def data_dir(self, node):
        return self.data / f"node-{node}"

    def dump(self, node, topic, partition):
        return cli.log_dump(self.data_dir(node), topic, partition)
