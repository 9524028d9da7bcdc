"""Backend `user`: a network namespace for each node, for the clients of each datacenter and for the operator, and
one process that passes every packet between them (`lab.router`)."""

import json
import subprocess
import sys
from pathlib import Path

from lab import netns
from lab.places import clients_of
from lab.scenario import DCS, NODES

KAFKA, PEER, ADMIN = 9092, 7400, 9640
HERE = Path(__file__).resolve().parent.parent


def _address(node):
    return f"10.91.{DCS.index(NODES[node]) + 1}.{node}"


class UserNet:
    def __init__(self, scenario, seed, directory):
        netns.enter_own()
        places = {f"n{n}": (dc, _address(n)) for n, dc in NODES.items()}
        places |= {clients_of(dc): (dc, f"10.91.{i}.200") for i, dc in enumerate(DCS, 1)}
        self.spaces = {name: netns.Namespace(at) for name, (_, at) in places.items()}
        places["op"], self.spaces["op"] = ("-", "10.91.0.1"), netns.Namespace("10.91.0.1", own=True)
        tuns = {name: space.tun for name, space in self.spaces.items()}
        arguments = [f"{name}:{dc}:{at}:{tuns[name]}" for name, (dc, at) in places.items()]
        self.router = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-B", "-m", "lab.router", str(seed), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, pass_fds=tuple(tuns.values()),
        )  # fmt: skip

    def small_disk(self, path, megabytes):
        netns.small_disk(path, megabytes)

    def listeners(self, node):
        """`(name, bind, advertised)` of what clients connect to."""
        return [("clients", f"0.0.0.0:{KAFKA}", self.kafka(node))]

    def peer(self, node):
        return f"0.0.0.0:{PEER}", f"{_address(node)}:{PEER}"

    def kafka(self, node, dc=None):
        """For the operator, or for clients in `dc`."""
        return f"{_address(node)}:{KAFKA}"

    def admin(self, node):
        """As it binds, and as the operator reaches it."""
        return f"0.0.0.0:{ADMIN}", f"{_address(node)}:{ADMIN}"

    def admin_at_home(self, node):
        """On the node's own machine."""
        return f"127.0.0.1:{ADMIN}"

    def inside(self, place, args):
        return self.spaces[place].inside(args)

    def _ask(self, **command):
        self.router.stdin.write(json.dumps(command) + "\n")
        self.router.stdin.flush()
        answer = self.router.stdout.readline()
        assert answer, f"the router has ended with {self.router.wait(10)}"
        return json.loads(answer)

    def cut(self, ways):
        self._ask(do="cut", ways=ways)

    def heal(self, ways):
        self._ask(do="heal", ways=ways)

    def shape(self, ways, shape):
        self._ask(do="shape", ways=ways, shape=vars(shape))

    def node_rtt_ms(self, shape):
        """Between nodes, on such a link."""
        return max(1, round(shape.delay * 2000))

    def figures(self):
        router = self._ask(do="figures")
        lost = sum(link["lost"] for link in router["links"].values())
        seen = sum(link["seen"] for link in router["links"].values())
        return f"WAN: {seen} packets, {lost} lost, {router['cut']} cut off, router at most {router['late'] * 1000:.0f} ms late"

    def close(self):
        self.router.kill()
        self.router.wait(10)
