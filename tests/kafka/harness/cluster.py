"""A cluster of `isobar start` processes, which can be killed, frozen, wiped and cut off one by one."""

import shutil
import subprocess
from pathlib import Path

from . import cli, http, topology, wait
from .disks import Disks
from .process import Process

READY_SECONDS = 60


class Cluster:
    def __init__(self, directory, per_dc=None, policy=(), settings=(), faulty_disks=False):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.nodes = topology.nodes(per_dc or {"fra": 3, "iad": 3, "sin": 3})
        self.topology = topology.write(self.directory, self.nodes, policy, settings=settings)
        self.processes = {}
        self._cut_off, self._cut_ways = set(), set()
        self.disks = Disks({n: self.data_dir(n).parent for n in self.nodes}) if faulty_disks else None
        cli.certs(self.topology, self.directory / "certs")

    def start(self, *numbers, ready=True):
        """Starts the given nodes, all of them by default."""
        numbers = numbers or tuple(self.nodes)
        for number in numbers:
            assert number not in self.processes, f"node {number} runs already"
            args = cli.start(self.topology, number)
            self.processes[number] = Process(args, self.directory / f"node-{number}.log")
        if ready:
            self.wait_ready(*numbers)
        return self

    def wait_ready(self, *numbers, seconds=READY_SECONDS):
        numbers = numbers or tuple(self.processes)

        def missing():
            for number in numbers:
                self.processes[number].assert_alive()
            return [n for n in numbers if http.status(self.admin(n), "/readyz") != 200]

        def what():
            return "\n".join(f"node {n} ready:\n{self.processes[n].tail(15)}" for n in missing())

        wait.until(what, lambda: not missing(), seconds, 0.1)

    def kill9(self, *numbers):
        """All at once: every signal leaves before the first death is awaited."""
        for number in numbers:
            self.processes[number].send_signal(9)
        for number in numbers:
            self.processes.pop(number).kill9()

    def cut_power(self, numbers, seed):
        """All at once: the disks first, so that syncs under way do not end; how many bytes and names are lost."""
        lost = [self.disks.cut(number, seed) for number in numbers]
        self.kill9(*numbers)
        for number in numbers:
            self.disks.power_on(number)
        return tuple(map(sum, zip(*lost)))

    def stop(self, number):
        self.processes[number].stop()

    def cont(self, number):
        self.processes[number].cont()

    def shut_down(self, number):
        return self.processes.pop(number).shut_down()

    def wipe(self, number):
        assert number not in self.processes, f"node {number} still runs"
        shutil.rmtree(self.data_dir(number))

    def cut_off(self, number):
        """Drops what node `number` sends to and hears from its peers; its clients stay."""
        _filter("-I", self.nodes[number])
        self._cut_off.add(number)

    def heal(self, number):
        _filter("-D", self.nodes[number])
        self._cut_off.discard(number)

    def cut(self, a, b):
        """Drops what nodes of one DC send to those of another, one way; their clients stay."""
        self._cut_ways.add((a, b))
        self._filter_way("-I", a, b)

    def mend(self, a, b):
        self._cut_ways.discard((a, b))
        self._filter_way("-D", a, b)

    def _filter_way(self, action, a, b):
        for source in self.in_dc(a):
            for destination in self.in_dc(b):
                _drop(action, "-s", self.nodes[source].address, "-d", self.nodes[destination].address)

    def close(self):
        for number in list(self._cut_off):
            self.heal(number)
        for way in list(self._cut_ways):
            self.mend(*way)
        for process in self.processes.values():
            process.cont()
        self.kill9(*self.processes)
        if self.disks:
            self.disks.close()
        for number in self.nodes:
            shutil.rmtree(self.data_dir(number), ignore_errors=True)

    def kafka(self, node):
        return self.nodes[node].kafka

    def admin(self, node):
        return self.nodes[node].admin

    def cli(self, node=1):
        return cli.Admin(self.admin(node))

    def numbers(self):
        return list(self.nodes)

    def in_dc(self, dc):
        return [number for number, node in self.nodes.items() if node.dc == dc]

    def bootstrap(self, dc=None):
        numbers = self.in_dc(dc) if dc else self.nodes
        return ",".join(self.kafka(n) for n in numbers if self.nodes[n].dc != topology.WITNESS)

    def data_dir(self, node):
        """Below what may be a disk of the node's own: the node makes it."""
        return self.directory / f"node-{node}/data"

    def dump(self, node, topic, partition):
        return cli.log_dump(self.data_dir(node), topic, partition)


def can_cut_off():
    """Whether this machine lets us filter packets."""
    try:
        return subprocess.run(["iptables", "-w", "-n", "-L"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _filter(action, node):
    for way in ("-s", "-d"):
        _drop(action, way, node.address)


def _drop(action, *whose):
    rule = ["iptables", "-w", action, "INPUT", "-p", "udp", *whose, "-j", "DROP"]
    subprocess.run(rule, check=True, capture_output=True)
