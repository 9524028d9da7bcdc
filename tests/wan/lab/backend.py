"""Which of the ways to make a WAN this machine offers: a probe, not a guess."""

import os
import subprocess

from lab import netns, toxiproxy
from lab.toxiproxy import ToxiproxyNet
from lab.user import UserNet

NETS = {"user": UserNet, "toxiproxy": ToxiproxyNet}
BACKENDS = ("auto", "user", "netem", "toxiproxy")


class Unavailable(Exception):
    pass


def probe_netem():
    """Why not, or `None` where the kernel has sch_netem. Asked of a namespace of our own (`enter_own`)."""
    try:
        add = subprocess.run("tc qdisc add dev lo root netem delay 1ms".split(), capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no `tc` (apt package iproute2)"
    if add.returncode == 0:
        subprocess.run("tc qdisc del dev lo root".split(), check=True)
        return None
    return f"the kernel has no netem: {' '.join(add.stderr.split())}"


def choose(wanted, why_no_netem):
    """The backend, and a sentence that says why. `why_no_netem()` asks the kernel."""
    if wanted == "toxiproxy":
        if not os.access(os.environ.get(toxiproxy.SERVER, ""), os.X_OK):
            raise Unavailable(f"backend toxiproxy: {toxiproxy.SERVER} names no program; `tests/wan/run` builds it where Go is")
        return wanted, "asked for: clients' connections are shaped; nodes are not apart, and nothing is lost or doubled"
    if os.geteuid() != 0:
        raise netns.Refused("namespaces and TUN devices need root; `--backend toxiproxy` does not")
    if wanted == "user":
        return wanted, "asked for"
    why_not = why_no_netem()
    if wanted == "netem":
        reason = why_not or "the kernel has it, but its backend is not built yet"
        raise Unavailable(f"backend netem: {reason}; `--backend user` works everywhere")
    return "user", why_not or "the kernel has netem, but its backend is not built yet"
