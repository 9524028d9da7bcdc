"""Asks every node again and again who leads, and writes what it says into the history."""

import json
import threading
import time

from harness import wire

from lab.scenario import NODES

EVERY_SECONDS = 0.5


class Watch:
    """`life(node)` counts a node's starts: after one, it may know less than before."""

    def __init__(self, addresses, topics, path, life):
        self._addresses, self._topics, self._life = addresses, topics, life
        self._file, self._lock, self._stopping = open(path, "a", buffering=1), threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(node,), daemon=True) for node in addresses]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, node):
        while not self._stopping.wait(EVERY_SECONDS):
            life = self._life(node)
            try:
                told = wire.metadata(self._addresses[node], self._topics)["topics"]
            except (OSError, AssertionError):
                continue  # dead, frozen or cut off: it says nothing
            if life == self._life(node):
                self._write(node, life, told)

    def _write(self, node, life, told):
        for topic, of in told.items():
            for number, partition in of["partitions"].items():
                leader = partition["leader"]
                if leader < 0:
                    continue
                place = {"topic": topic, "p": number, "leader": leader, "dc": NODES[leader], "epoch": partition["epoch"]}
                line = {"op": "leader", "t": time.monotonic(), "node": node, "life": life, **place}
                with self._lock:
                    self._file.write(json.dumps(line) + "\n")
