"""Backend `toxiproxy`: the WAN as Kafka clients see it. All processes are on loopback; between the clients of each
datacenter and each node stands a proxy of [Toxiproxy](https://github.com/Shopify/toxiproxy), and a listener of the
node names it to those clients (so they follow a leader through it, too).

It delays, slows and cuts the bytes of TCP connections. It knows no packets: nothing is lost or doubled, and nothing
happens between nodes, which speak QUIC.
"""

import json
import os
import subprocess
import urllib.request

from harness import http, ports, wait

from lab import netns
from lab.link import Shape
from lab.places import clients_of, pairs
from lab.scenario import DCS, NODES

SERVER = "ISOBAR_TOXIPROXY"
READY_SECONDS = 30
UPSTREAM, DOWNSTREAM = "upstream", "downstream"


def places():
    """The datacenter of every place."""
    return {f"n{n}": dc for n, dc in NODES.items()} | {clients_of(dc): dc for dc in DCS}


def streams(ways):
    """`(client datacenter, node, stream)` of what a cut of these ways stops: clients to a node, or its answers."""
    for source, target in pairs(places(), ways):
        if source.startswith("c-") and target.startswith("n"):
            yield source[2:], int(target[1:]), UPSTREAM
        elif source.startswith("n") and target.startswith("c-"):
            yield target[2:], int(source[1:]), DOWNSTREAM


def toxics(stream, shape, is_cut):
    """What of Toxiproxy makes one direction of a connection be like this."""
    found = []
    if shape.delay or shape.jitter:
        found.append(("latency", {"latency": round(shape.delay * 1000), "jitter": round(shape.jitter * 1000)}))
    if shape.rate:
        found.append(("bandwidth", {"rate": max(1, round(shape.rate / 8000))}))
    if is_cut:
        # Without a time of its own: what was sent waits until the toxic goes, as behind a cut that TCP outlives.
        found.append(("timeout", {"timeout": 0}))
    return [
        {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes}
        for kind, attributes in found
    ]


class ToxiproxyNet:
    def __init__(self, scenario, seed, directory):
        if scenario.small_disks:
            netns.enter_own(netns.CLONE_NEWNS)
        self._direct, self._peer, self._admin = (self._row() for _ in range(3))
        self._behind = {dc: self._row() for dc in DCS}
        self._proxy = {dc: self._row() for dc in DCS}
        self._shapes, self._standing, self._blocked, self._cuts = {}, {}, {}, 0
        api = ports.row(1)
        self._api = f"127.0.0.1:{api}"
        command = ["setpriv", "--pdeathsig", "KILL", os.environ[SERVER], "-host", "127.0.0.1", "-port", str(api)]
        self._log = open(directory / "toxiproxy.log", "ab")
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT)
        wait.until("Toxiproxy answers", lambda: http.status(self._api, "/version") == 200, READY_SECONDS, 0.05)
        for dc in DCS:
            for node in NODES:
                self._call("POST", "/proxies", {
                    "name": self._name(dc, node), "enabled": True,
                    "listen": self.kafka(node, dc), "upstream": f"127.0.0.1:{self._behind[dc][node]}",
                })  # fmt: skip

    def _row(self):
        first = ports.row(len(NODES))
        return {node: first + place for place, node in enumerate(NODES)}

    @staticmethod
    def _name(dc, node):
        return f"{dc}-n{node}"

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self._api}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def small_disk(self, path, megabytes):
        netns.small_disk(path, megabytes)

    def listeners(self, node):
        direct = self.kafka(node)
        return [("operator", direct, direct)] + [
            (f"from-{dc}", f"127.0.0.1:{self._behind[dc][node]}", self.kafka(node, dc)) for dc in DCS
        ]

    def peer(self, node):
        return (f"127.0.0.1:{self._peer[node]}",) * 2

    def kafka(self, node, dc=None):
        port = self._direct[node] if dc is None else self._proxy[dc][node]
        return f"127.0.0.1:{port}"

    def admin(self, node):
        return (f"127.0.0.1:{self._admin[node]}",) * 2

    def admin_at_home(self, node):
        return self.admin(node)[1]

    def inside(self, place, args):
        return ["setpriv", "--pdeathsig", "KILL", *map(str, args)]

    def cut(self, ways):
        for stream in streams(ways):
            self._blocked[stream] = self._blocked.get(stream, 0) + 1
            if self._blocked[stream] == 1:
                self._cuts += 1
                self._apply(*stream)

    def heal(self, ways):
        for stream in streams(ways):
            self._blocked[stream] -= 1
            if not self._blocked[stream]:
                self._apply(*stream)

    def shape(self, ways, shape):
        for a, b in ways:
            self._shapes[a, b] = shape
        for stream in streams(ways):
            self._apply(*stream)

    def _apply(self, dc, node, stream):
        """Makes one direction of all connections, open ones too, as it is to be now."""
        way = (dc, NODES[node]) if stream == UPSTREAM else (NODES[node], dc)
        is_cut = self._blocked.get((dc, node, stream), 0) > 0
        wanted = {toxic["name"]: toxic for toxic in toxics(stream, self._shapes.get(way, Shape()), is_cut)}
        standing = self._standing.get((dc, node, stream), {})
        path = f"/proxies/{self._name(dc, node)}/toxics"
        for name in standing.keys() - wanted.keys():
            self._call("DELETE", f"{path}/{name}")
        for name, toxic in wanted.items():
            if name not in standing:
                self._call("POST", path, toxic)
            elif toxic != standing[name]:
                self._call("POST", f"{path}/{name}", toxic)
        self._standing[dc, node, stream] = wanted

    def node_rtt_ms(self, shape):
        return 1

    def figures(self):
        return f"Toxiproxy: {len(DCS) * len(NODES)} proxies, {self._cuts} directions cut off"

    def close(self):
        self._server.kill()
        self._server.wait(10)
        self._log.close()
