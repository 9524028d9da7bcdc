"""Nine nodes, the clients of three datacenters and the operator, on the network that a backend makes."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

from harness import cli, http, wait
from harness.process import BIN, Process, environment

from lab.link import Shape
from lab.places import clients_of
from lab.scenario import DCS, NODES

HERE = Path(__file__).resolve().parent.parent
READY_SECONDS = 180
# Of every topic, at first.
HOME = "fra"


class Lab:
    def __init__(self, directory, scenario, net):
        self.directory, self.scenario, self.net = Path(directory), scenario, net
        self.processes, self.lives, self.clients = {}, dict.fromkeys(NODES, 0), {}
        for pair, shape in scenario.links.items():
            a, b = sorted(pair)
            net.shape([(a, b), (b, a)], shape)
        for node, megabytes in scenario.small_disks.items():
            net.small_disk(self.data_dir(node), megabytes)
        self.topology = self._write_topology()
        cli.certs(self.topology, self.directory / "certs")

    def _write_topology(self):
        lines = ["version = 1", "[cluster]", 'name = "wan"']
        lines += [line for dc in DCS for line in ("[[dc]]", f'name = "{dc}"')]
        for node, dc in NODES.items():
            lines += ["[[node]]", f"id = {node}", f'dc = "{dc}"', f'data_dirs = ["{self.data_dir(node)}"]']
            for key, (bind, advertised) in (("peer", self.net.peer(node)), ("admin", self.net.admin(node))):
                lines.append(f'{key} = {{ bind = "{bind}", advertised = "{advertised}" }}')
            for name, bind, advertised in self.net.listeners(node):
                lines += ["[[node.listener]]", f'name = "{name}"', f'bind = "{bind}"', f'advertised = "{advertised}"']
        for a, b in (("fra", "iad"), ("fra", "sin"), ("iad", "sin")):
            shape = self.scenario.links.get(frozenset((a, b)), Shape())
            lines += ["[[link]]", f'between = ["{a}", "{b}"]', f'rtt = "{self.net.node_rtt_ms(shape)}ms"']
        replicas = ", ".join(f"{dc} = {sum(of == dc for of in NODES.values())}" for dc in DCS)
        lines += ["[policy.default]", f'home = "{HOME}"', f"replicas = {{ {replicas} }}"]
        # Groups keep what was acknowledged through every failover of these scenarios.
        lines += ["[policy.internal]", 'replication = "sync"']
        path = self.directory / "topology.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def data_dir(self, node):
        return self.directory / f"node-{node}"

    def kafka(self, node):
        return self.net.kafka(node)

    def admin(self, node):
        return self.net.admin(node)[1]

    def bootstrap(self, dc=None):
        return ",".join(self.kafka(n) for n, of in NODES.items() if dc in (None, of))

    def cli(self, node):
        return cli.Admin(self.admin(node))

    def numbers(self):
        return list(NODES)

    def dump(self, node, topic, partition):
        return cli.log_dump(self.data_dir(node), topic, partition)

    def command(self, node, args, seconds):
        """An `isobar` command on the node's own machine: changes are taken from nowhere else."""
        inside = self.net.inside(f"n{node}", [BIN, *args, "--admin", self.net.admin_at_home(node)])
        return subprocess.run(inside, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, env=environment())

    def start(self, *nodes):
        for node in nodes:
            self.lives[node] += 1
            command = self.net.inside(f"n{node}", cli.start(self.topology, node))
            self.processes[node] = Process(command, self.directory / f"node-{node}.log")

    def wait_ready(self, seconds=READY_SECONDS):
        def missing():
            for process in self.processes.values():
                process.assert_alive()
            return [n for n in self.processes if http.status(self.admin(n), "/readyz") != 200]

        wait.until(lambda: f"nodes {missing()} ready", lambda: not missing(), seconds, 0.2)

    def kill(self, *nodes):
        """All at once."""
        for node in nodes:
            if self.processes[node].alive():
                self.processes[node].send_signal(9)
        for node in nodes:
            self.processes.pop(node).kill9()

    def wipe(self, node):
        """What is mounted there stays, empty."""
        for path in self.data_dir(node).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def start_clients(self, rate, topics):
        names = [f"{topic.name}:{topic.partitions}" for topic in topics]
        for dc in DCS:
            # Its own datacenter first; librdkafka takes them as they come.
            nearest = sorted(NODES, key=lambda n, dc=dc: NODES[n] != dc)
            at = ",".join(self.net.kafka(n, dc) for n in nearest)
            args = [sys.executable, "-B", "-m", "lab.load", dc, at, self.directory / f"history-{dc}.jsonl", rate, *names]
            self.clients[dc] = Process(self.net.inside(clients_of(dc), args), self.directory / f"clients-{dc}.log", cwd=HERE)

    def stop_clients(self, seconds):
        for client in self.clients.values():
            client.assert_alive()
            client.send_signal(15)
        for client in self.clients.values():
            status = client.wait_end(seconds)
            assert status == 0, f"clients ended with {status}:\n{client.tail()}"
        self.clients = {}

    def close(self):
        for process in [*self.processes.values(), *self.clients.values()]:
            with contextlib.suppress(ProcessLookupError):
                process.cont()
                process.kill9()
        self.net.close()
