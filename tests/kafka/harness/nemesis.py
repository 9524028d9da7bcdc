"""Faults by a seed: what happens to a cluster of real processes, one thing after another, some of them at once.

The seed decides what is done and for how long; when a process dies of it, and what that meets, is the machine's. So a
seed that was red once is a good place to look again, not a repetition.
"""

import itertools
import random
import subprocess
import time

from . import cli, wait

DCS = ("fra", "iad", "sin")


class Nemesis:
    def __init__(self, cluster, topics, seed):
        self.cluster, self.topics = cluster, topics
        self.random, self.log = random.Random(seed), []
        self._began = time.monotonic()
        self._undo, self._frozen, self._cuts = [], set(), set()

    def say(self, text):
        self.log.append(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def actions(self):
        return [self.kill, self.freeze, self.cut, self.cut_one_way, self.isolate_home, self.switch_over, self.lose_a_home]

    def run(self, seconds):
        """Does things until the time is over, then undoes what is not undone."""
        end = time.monotonic() + seconds
        actions = self.actions()
        try:
            while time.monotonic() < end:
                self.random.choice(actions)()
                wait.for_seconds(self.random.uniform(0.5, 3))
                # Now and then the next thing comes before this one is over.
                if self.random.random() < 0.6:
                    self.undo()
        finally:
            self.undo()

    def account(self):
        """Of what the figures shall say beside the number of events."""
        return ""

    def assert_tested(self):
        """That what shall happen in every run has happened."""

    def undo(self):
        while self._undo:
            self._undo.pop()()

    def later(self, what, undo):
        def told():
            self.say(what)
            undo()

        self._undo.append(told)

    def kill(self):
        """Never so many at once that nobody knows any more what was acknowledged: one a datacenter."""
        alive = [n for dc in DCS for n in self._free(dc)]
        if not alive:
            return
        node = self.random.choice(alive)
        self.say(f"node {node} is killed")
        self.cluster.kill9(node)
        self.later(f"node {node} starts", lambda: self.cluster.start(node, ready=False))

    def freeze(self):
        alive = [n for dc in DCS for n in self._free(dc)]
        if not alive:
            return
        node = self.random.choice(alive)
        self.say(f"node {node} is frozen")
        self.cluster.stop(node)
        self._frozen.add(node)

        def thaw():
            self._frozen.discard(node)
            self.cluster.cont(node)

        self.later(f"node {node} goes on", thaw)

    def cut(self):
        a, b = self.random.choice(list(itertools.combinations(DCS, 2)))
        self._cut(a, b)
        self._cut(b, a)

    def cut_one_way(self):
        self._cut(*self.random.choice(list(itertools.permutations(DCS, 2))))

    def isolate_home(self):
        home = self._home(self.random.choice(self.topics))
        for other in DCS:
            if home and other != home:
                self._cut(home, other)
                self._cut(other, home)

    def switch_over(self):
        """To anywhere; sometimes with somebody killed while it is under way."""
        topic = self.random.choice(self.topics)
        home = self._home(topic)
        if home is None:
            return
        to = self.random.choice([dc for dc in DCS if dc != home])
        running = self._move("switchover", home, to, topic)
        if self.random.random() < 0.4:
            wait.for_seconds(self.random.uniform(0, 0.3))
            self.kill()
        self._wait(running)

    def lose_a_home(self):
        """Its links are cut, it is alive; somebody fails over; it comes back."""
        topic = self.random.choice(self.topics)
        home = self._home(topic)
        if home is None:
            return
        self.undo()
        for other in DCS:
            if other != home:
                self._cut(home, other)
                self._cut(other, home)
        to = self.random.choice([dc for dc in DCS if dc != home])
        self._wait(self._move("failover", home, to, topic, away_from=home))

    def _free(self, dc):
        """Nodes of a datacenter in which all are well; else none."""
        numbers = self.cluster.in_dc(dc)
        well = all(n in self.cluster.processes and n not in self._frozen for n in numbers)
        return numbers if well else []

    def _cut(self, a, b):
        if (a, b) in self._cuts:
            return
        self.say(f"{a} > {b} is cut")
        self._cuts.add((a, b))
        self.cluster.cut(a, b)

        def mend():
            self._cuts.discard((a, b))
            self.cluster.mend(a, b)

        self.later(f"{a} > {b} is mended", mend)

    def _asked(self, away_from=None):
        well = [
            n
            for n in self.cluster.numbers()
            if n in self.cluster.processes and n not in self._frozen and self.cluster.nodes[n].dc != away_from
        ]
        return self.cluster.admin(self.random.choice(well))

    def _home(self, topic):
        try:
            return cli.Admin(self._asked()).partition(topic, 0)["home"]
        except (cli.Failed, subprocess.TimeoutExpired, IndexError):
            return None

    def _move(self, kind, home, to, topic, away_from=None):
        self.say(f"{kind} of {topic} from {home} to {to}")
        args = ["dc", kind, home, "--to", to, "--topics", topic, "--yes", "--admin", self._asked(away_from)]
        return cli.begin(*args)

    def _wait(self, running):
        """A move that cannot be made is refused or waits; it is not what is judged here."""
        try:
            status = running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            status = "no end within 20 s"
        self.say(f"the command ended: {status}")
