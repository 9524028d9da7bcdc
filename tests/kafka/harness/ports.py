"""Free ports. The ranges lie below the kernel's ephemeral ports, so that no client socket takes one
between the probe and the start."""

import os
import random
import socket

WORKERS_MAX = 4
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# A port is free until it is used: who runs beside takes from another range.
_EACH = 20_000 // WORKERS_MAX
FIRST = 10_000 + _worker % WORKERS_MAX * _EACH
LAST = FIRST + _EACH
_random = random.Random(os.getpid())
_given = set()


def _is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def row(count):
    """The first of `count` free ports in a row; no port is given twice in a run."""
    for _ in range(1000):
        first = _random.randrange(FIRST, LAST - count)
        ports = range(first, first + count)
        if not _given.intersection(ports) and all(map(_is_free, ports)):
            _given.update(ports)
            return first
    raise RuntimeError(f"no {count} free ports in a row between {FIRST} and {LAST}")
