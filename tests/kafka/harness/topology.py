"""Topology files for clusters of real processes."""

import itertools
import random
from pathlib import Path

from . import ports

WITNESS = "wit"
DCS = ("fra", "iad", "sin", WITNESS)
LINKS = {("fra", "iad"): "90ms", ("iad", "sin"): "220ms", ("fra", "sin"): "160ms"}


# Another for every run and every worker of it: a packet filter knows addresses, and not whose nodes they are.
_NETWORK = "127.{}.{}".format(*random.SystemRandom().choices(range(2, 250), k=2))


class Node:
    """Each node has a loopback address of its own, so that a packet filter can tell them apart."""

    def __init__(self, number, dc):
        self.number, self.dc = number, dc
        self.address = f"{_NETWORK}.{number}"
        self.kafka_port, self.peer_port, self.admin_port = ports.row(1), ports.row(1), ports.row(1)
        self.kafka = f"{self.address}:{self.kafka_port}"
        self.peer = f"{self.address}:{self.peer_port}"
        self.admin = f"{self.address}:{self.admin_port}"


def nodes(per_dc):
    """`{"fra": 3, "iad": 1}` → nodes 1, 2, 3 in fra and 4 in iad. `wit` is a witness."""
    places = [dc for dc in DCS for _ in range(per_dc.get(dc, 0))]
    return {number: Node(number, dc) for number, dc in enumerate(places, 1)}


def table(directory, node):
    """The lines of one node."""
    lines = [
        "",
        "[[node]]",
        f"id = {node.number}",
        f'dc = "{node.dc}"',
        f'peer = {{ bind = "{node.peer}", advertised = "{node.peer}" }}',
        f'admin = {{ bind = "{node.admin}", advertised = "{node.admin}" }}',
        f'data_dirs = ["{directory}/node-{node.number}/data"]',
    ]
    if node.dc == WITNESS:
        return lines
    listener = ['name = "clients"', f'bind = "{node.kafka}"', f'advertised = "{node.kafka}"']
    return [*lines, "", "[[node.listener]]", *listener]


def write(directory, nodes, policy=(), rtt="1ms", settings=()):
    """Writes DIR/topology.toml for nodes that share this machine; returns its path.

    Certificates are where the file's defaults have them, below DIR/certs. No WAN stands between real
    processes on one machine, so the links state what is there.
    """
    directory = Path(directory)
    dcs = [dc for dc in DCS if any(node.dc == dc for node in nodes.values())]
    lines = ["version = 1", "", "[cluster]", 'name = "tests"', *settings]
    for dc in dcs:
        lines += ["", "[[dc]]", f'name = "{dc}"', *(["witness = true"] if dc == WITNESS else [])]
    for node in nodes.values():
        lines += table(directory, node)
    for a, b in itertools.combinations(dcs, 2):
        lines += ["", "[[link]]", f'between = ["{a}", "{b}"]', f'rtt = "{rtt}"']
    count = {dc: sum(node.dc == dc for node in nodes.values()) for dc in dcs if dc != WITNESS}
    replicas = ", ".join(f"{dc} = {n}" for dc, n in count.items())
    lines += ["", "[policy.default]", f'home = "{dcs[0]}"', f"replicas = {{ {replicas} }}", *policy]
    path = directory / "topology.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
