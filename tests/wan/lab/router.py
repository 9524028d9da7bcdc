"""The router between the namespaces: a process of its own, one thread, one heap.

    python -m lab.router SEED ENDPOINT…      ENDPOINT is NAME:DC:ADDRESS:FD

Reads commands as JSON lines from stdin and answers each with one line; ends with its stdin, or with what
started it. An endpoint without a DC (`-`) sees every other without delay: that is where the operator sits.
"""

import heapq
import json
import os
import selectors
import socket
import sys
import time

from lab.link import Link, Shape
from lab.places import pairs

PACKETS_A_TURN = 64


class Router:
    def __init__(self, seed, endpoints):
        self.names = [name for name, *_ in endpoints]
        self.dcs = {name: dc for name, dc, *_ in endpoints}
        self.by_address = {socket.inet_aton(address): name for name, _, address, _ in endpoints}
        self.fds = {name: fd for name, *_, fd in endpoints}
        dcs = sorted({dc for dc in self.dcs.values() if dc != "-"})
        self.links = {(a, b): Link(Shape(), f"{seed}/{a}>{b}") for a in dcs for b in dcs if a != b}
        self.blocked = {}
        self.heap, self.sequence, self.strange, self.cut = [], 0, 0, 0
        self.late = 0.0

    def arrived(self, source, packet, now):
        target = self.by_address.get(packet[16:20]) if len(packet) >= 20 and packet[0] >> 4 == 4 else None
        if target is None:
            self.strange += 1
            return
        link = self.links.get((self.dcs[source], self.dcs[target]))
        if (source, target) in self.blocked:
            self.cut += 1
            return
        for at in link.admit(now, len(packet)) if link else [now]:
            self.sequence += 1
            heapq.heappush(self.heap, (at, self.sequence, target, packet))

    def release(self, now):
        while self.heap and self.heap[0][0] <= now:
            at, _, target, packet = heapq.heappop(self.heap)
            self.late = max(self.late, now - at)
            try:
                os.write(self.fds[target], packet)
            except OSError:
                pass  # its queue is full: the network has lost a packet

    def command(self, line):
        ask = json.loads(line)
        if ask["do"] == "shape":
            for a, b in ask["ways"]:
                self.links[a, b].shape = Shape(**ask["shape"])
        elif ask["do"] == "cut":
            # Cuts nest: two that overlap heal when both have.
            for pair in pairs(self.dcs, ask["ways"]):
                self.blocked[pair] = self.blocked.get(pair, 0) + 1
        elif ask["do"] == "heal":
            for pair in pairs(self.dcs, ask["ways"]):
                self.blocked[pair] -= 1
                if not self.blocked[pair]:
                    del self.blocked[pair]
        elif ask["do"] != "figures":
            raise ValueError(f"the router cannot {ask['do']}")
        figures = {
            f"{a}>{b}": {"seen": k.seen, "lost": k.lost, "dropped": k.dropped, "doubled": k.doubled}
            for (a, b), k in self.links.items()
        }
        return {"late": round(self.late, 4), "strange": self.strange, "cut": self.cut, "links": figures}


def serve(router):
    """Until stdin ends."""
    waiting = selectors.DefaultSelector()
    for name, fd in router.fds.items():
        os.set_blocking(fd, False)
        waiting.register(fd, selectors.EVENT_READ, name)
    waiting.register(0, selectors.EVENT_READ, None)
    pending = b""
    while True:
        now = time.monotonic()
        router.release(now)
        patience = max(0.0, router.heap[0][0] - time.monotonic()) if router.heap else None
        for key, _ in waiting.select(patience):
            if key.data is None:
                read = os.read(0, 65536)
                if not read:
                    return
                *lines, pending = (pending + read).split(b"\n")
                for line in lines:
                    print(json.dumps(router.command(line)), flush=True)
                continue
            for _ in range(PACKETS_A_TURN):
                try:
                    packet = os.read(key.fd, 65536)
                except BlockingIOError:
                    break
                router.arrived(key.data, packet, time.monotonic())


if __name__ == "__main__":
    split = [argument.split(":") for argument in sys.argv[2:]]
    serve(Router(sys.argv[1], [(name, dc, address, int(fd)) for name, dc, address, fd in split]))
