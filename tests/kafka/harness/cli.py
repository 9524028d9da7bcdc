"""The product's own command line. Every flag that this suite knows stands here."""

import json
import subprocess

from .process import BIN, environment


class Failed(AssertionError):
    """A command ended with a status other than 0."""


def run(*args, check=True, seconds=60, env=None):
    done = subprocess.run(
        [BIN, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        env=environment() | (env or {}),
    )
    if check and done.returncode != 0:
        raise Failed(f"isobar {' '.join(map(str, args))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def begin(*args):
    """Starts a command and does not wait for it."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    return subprocess.Popen([BIN, *map(str, args)], env=environment(), **quiet)


def dev(data_dir, kafka_port, admin_port, topology=None, fresh=True):
    args = [BIN, "dev", "--data-dir", data_dir, "--kafka-port", kafka_port, "--admin-port", admin_port]
    args += ["--topology", topology] if topology else []
    return args + (["--fresh"] if fresh else [])


def start(topology, node, data_dir=None):
    args = [BIN, "start", "--topology", topology, "--node", node]
    return args + (["--data-dir", data_dir] if data_dir else [])


def certs(topology, out):
    return run("certs", "--topology", topology, "--out", out)


def log_dump(data_dir, topic, partition):
    """One line a batch up to HW; the same on every node that holds the same log."""
    dumped = run("log", "dump", "--data-dir", data_dir, "--topic", topic, "--partition", partition, seconds=300)
    return dumped.stdout


class Admin:
    """The commands that ask a node, by its admin address."""

    def __init__(self, address):
        self.address = address

    def run(self, *args, **kwargs):
        return run(*args, "--admin", self.address, **kwargs)

    def json(self, *args, **kwargs):
        return json.loads(self.run(*args, "--json", **kwargs).stdout)

    def link_set(self, a, b, **shape):
        """`link_set("fra", "iad", rtt="20ms", loss="1%")`."""
        flags = [part for key, value in shape.items() for part in (f"--{key}", value)]
        return self.run("link", "set", a, b, *flags)

    def link_cut(self, a, b, one_way=False):
        return self.run("link", "cut", a, b, *(["--one-way"] if one_way else []))

    def link_heal(self, a, b):
        return self.run("link", "heal", a, b)

    def partition(self, topic, partition):
        return self.json("cluster", "partition-info", "--topic", topic, "--partition", partition)
