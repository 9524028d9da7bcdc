"""Which of the ways to make a WAN this machine offers: a probe, not a guess."""

import subprocess

BACKENDS = ("auto", "user", "netem")


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
    """The backend, and a sentence that says why. Both shape the same packets; `netem` in the kernel."""
    if wanted == "netem":
        reason = why_no_netem or "the kernel has it, but its backend is not built yet"
        raise Unavailable(f"backend netem: {reason}; `--backend user` works everywhere")
    if wanted == "user":
        return "user", "asked for"
    return "user", why_no_netem or "the kernel has netem, but its backend is not built yet"
