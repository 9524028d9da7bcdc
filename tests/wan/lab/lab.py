"""Nine nodes, the clients of three datacenters and the operator, each in a namespace; the router between them."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from harness import cli, http, wait
from harness.process import BIN, Process, environment

from lab import netns
from lab.link import Shape
from lab.scenario import DCS, NODES

KAFKA, PEER, ADMIN = 9092, 7400, 9640
HERE = Path(__file__).resolve().parent.parent
READY_SECONDS = 180


def address(node):
    return f"10.91.{DCS.index(NODES[node]) + 1}.{node}"


class Lab:
    def __init__(self, directory, scenario, seed):
        self.directory, self.scenario = Path(directory), scenario
        self.processes, self.lives, self.clients = {}, dict.fromkeys(NODES, 0), {}
        netns.enter_own()
        places = {f"n{n}": (dc, address(n)) for n, dc in NODES.items()}
        places |= {f"c-{dc}": (dc, f"10.91.{i}.200") for i, dc in enumerate(DCS, 1)}
        self.spaces = {name: netns.Namespace(at) for name, (_, at) in places.items()}
        places["op"], self.spaces["op"] = ("-", "10.91.0.1"), netns.Namespace("10.91.0.1", own=True)
        tuns = {name: space.tun for name, space in self.spaces.items()}
        arguments = [f"{name}:{dc}:{at}:{tuns[name]}" for name, (dc, at) in places.items()]
        self.router = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-B", "-m", "lab.router", str(seed), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, pass_fds=tuple(tuns.values()),
        )  # fmt: skip
        for pair, shape in scenario.links.items():
            a, b = sorted(pair)
            self.shape([(a, b), (b, a)], shape)
        for node, megabytes in scenario.small_disks.items():
            netns.small_disk(self.data_dir(node), megabytes)
        self.topology = self._write_topology()
        cli.certs(self.topology, self.directory / "certs")

    def _write_topology(self):
        lines = ["version = 1", "[cluster]", 'name = "wan"']
        lines += [line for dc in DCS for line in ("[[dc]]", f'name = "{dc}"')]
        for node, dc in NODES.items():
            at = address(node)

            def both(port, at=at):
                return f'bind = "0.0.0.0:{port}", advertised = "{at}:{port}"'

            lines += ["[[node]]", f"id = {node}", f'dc = "{dc}"', f"peer = {{ {both(PEER)} }}", f"admin = {{ {both(ADMIN)} }}"]
            lines += [f'data_dirs = ["{self.data_dir(node)}"]', "[[node.listener]]", 'name = "clients"']
            lines += both(KAFKA).split(", ")
        for a, b in (("fra", "iad"), ("fra", "sin"), ("iad", "sin")):
            shape = self.scenario.links.get(frozenset((a, b)), Shape())
            lines += ["[[link]]", f'between = ["{a}", "{b}"]', f'rtt = "{max(1, round(shape.delay * 2000))}ms"']
        replicas = ", ".join(f"{dc} = {sum(of == dc for of in NODES.values())}" for dc in DCS)
        lines += ["[policy.default]", 'home = "fra"', f"replicas = {{ {replicas} }}"]
        # Groups keep what was acknowledged through every failover of these scenarios.
        lines += ["[policy.internal]", 'replication = "sync"']
        path = self.directory / "topology.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def ask_router(self, **command):
        self.router.stdin.write(json.dumps(command) + "\n")
        self.router.stdin.flush()
        answer = self.router.stdout.readline()
        assert answer, f"the router has ended with {self.router.wait(10)}"
        return json.loads(answer)

    def shape(self, ways, shape):
        self.ask_router(do="shape", ways=ways, shape=vars(shape))

    def data_dir(self, node):
        return self.directory / f"node-{node}"

    def kafka(self, node):
        return f"{address(node)}:{KAFKA}"

    def admin(self, node):
        return f"{address(node)}:{ADMIN}"

    def bootstrap(self, dc=None):
        return ",".join(self.kafka(n) for n, of in NODES.items() if dc in (None, of))

    def numbers(self):
        return list(NODES)

    def dump(self, node, topic, partition):
        return cli.log_dump(self.data_dir(node), topic, partition)

    def command(self, node, args, seconds):
        """An `isobar` command on the node's own machine: changes are taken from nowhere else."""
        inside = self.spaces[f"n{node}"].inside([BIN, *args, "--admin", f"127.0.0.1:{ADMIN}"])
        return subprocess.run(inside, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, env=environment())

    def start(self, *nodes):
        for node in nodes:
            self.lives[node] += 1
            command = self.spaces[f"n{node}"].inside(cli.start(self.topology, node))
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
            others = [self.kafka(n) for n, of in NODES.items() if of != dc]
            at = ",".join([self.bootstrap(dc), *others])
            args = [sys.executable, "-B", "-m", "lab.load", dc, at, self.directory / f"history-{dc}.jsonl", rate, *names]
            self.clients[dc] = Process(self.spaces[f"c-{dc}"].inside(args), self.directory / f"clients-{dc}.log", cwd=HERE)

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
        self.router.kill()
        self.router.wait(10)
