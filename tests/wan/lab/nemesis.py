"""Does what a scenario's events say, in their order, and undoes it when their time is over."""

import contextlib
import heapq
import itertools
import os
import shlex
import subprocess
import threading
import time

from harness import http, kafka, wait

from lab.scenario import DCS, NODES

FILLER = "filler"
COMMAND_SECONDS = 240
# Elections end in a second; a node that is asked in the middle of a fault may answer late.
LEADER_SECONDS = 60


class Nemesis:
    def __init__(self, lab, say, before_wipe):
        """`before_wipe()`: the moment to keep what the disks of a datacenter have."""
        self.lab, self.say, self.before_wipe = lab, say, before_wipe
        self.wiped, self.troubles = {}, []
        self._order, self._down, self._paused = itertools.count(), set(), set()
        self._planned, self._commands, self._refusals = [], [], {}

    def run(self, events, seconds):
        """Lets the scenario's time pass. A command that is not in the background ends before the next event begins."""
        began = time.monotonic()
        for event in events:
            self._at(event.at, lambda event=event: self._begin(event))
        self._at(seconds, lambda: None)
        self._now = lambda: time.monotonic() - began
        while self._planned:
            at, _, act = heapq.heappop(self._planned)
            wake = threading.Event()
            while (left := at - self._now()) > 0:
                self._expected_to_live()
                wake.wait(min(left, 0.5))
            act()
        for command in self._commands:
            command.join()

    def _at(self, at, act):
        heapq.heappush(self._planned, (at, next(self._order), act))

    def _later(self, event, text, act):
        def undo():
            self.say(f"{self._now():6.1f} s  {text}")
            act()

        self._at(max(self._now(), event.at) + event.lasts, undo)

    def _begin(self, event):
        self.say(f"{self._now():6.1f} s  {event.action} {event.target}{' and wipe' if event.wipe else ''}")
        getattr(self, f"_{event.action}")(event)

    def _cut(self, event):
        ways = ways_of(event.target)
        self.lab.net.cut(ways)
        self._later(event, f"heal {event.target}", lambda: self.lab.net.heal(ways))

    def _isolate(self, event):
        for place in self._resolve(event.target):
            ways = [(place, "*"), ("*", place)]
            self.lab.net.cut(ways)
            self._later(event, f"heal {place}", lambda ways=ways: self.lab.net.heal(ways))

    def _flap(self, event):
        """Cut and whole in turns of `every`; whole at the end."""
        ways, is_cut, at = ways_of(event.target), False, self._now()
        end = at + event.lasts
        while at < end or is_cut:
            is_cut = not is_cut
            act = self.lab.net.cut if is_cut else self.lab.net.heal
            self._at(at, lambda act=act: act(ways))
            at += event.every

    def _slow(self, event):
        ways = ways_of(event.target)
        (a, b), *_ = ways
        before = self.lab.scenario.links.get(frozenset((a, b)))
        self.lab.net.shape(ways, event.shape)
        if before:
            self._later(event, f"{event.target} as before", lambda: self.lab.net.shape(ways, before))

    def _kill(self, event):
        nodes = [n for n in self._nodes(event.target) if n not in self._down]
        if event.wipe:
            self.before_wipe()
        self._paused -= set(nodes)
        self._down |= set(nodes)
        self.say(f"        n{', n'.join(map(str, nodes))}")
        self.lab.kill(*nodes)
        if event.wipe:
            self.wiped |= {NODES[n]: time.time() * 1000 for n in nodes}
            for node in nodes:
                self.lab.wipe(node)

        def back():
            self.lab.start(*nodes)
            self._down.difference_update(nodes)

        self._later(event, f"start {nodes}", back)

    def _pause(self, event):
        for node in self._nodes(event.target):
            if node in self._down or node in self._paused:
                continue
            self._paused.add(node)
            self.lab.processes[node].stop()
            life = self.lab.lives[node]
            self._later(event, f"continue n{node}", lambda node=node, life=life: self._go_on(node, life))

    def _go_on(self, node, life):
        if node in self._paused and self.lab.lives[node] == life:
            self._paused.discard(node)
            self.lab.processes[node].cont()

    def _fill(self, event):
        (node,) = self._nodes(event.target)
        filler = self.lab.data_dir(node) / FILLER
        with open(filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(os.urandom(1 << 16))
        self._later(event, f"n{node} has room again", lambda: filler.unlink(missing_ok=True))

    def _run(self, event):
        """As an operator does who tries again while the answer is no, for as long as the event says (`within`)."""

        def command():
            try:
                wait.until("", lambda: self._command(event), event.within, 1.0, (OSError, AssertionError))
            except wait.Late:
                if not event.may_fail:
                    self.troubles.append(f"`isobar {event.target}`: {self._refusals.get(event, 'nobody could be asked')}")
            except subprocess.TimeoutExpired as error:
                self.troubles.append(f"`isobar {event.target}`: {error!r}")

        thread = threading.Thread(target=command, daemon=True)
        thread.start()
        self._commands.append(thread)
        if not event.background:
            thread.join()

    def _command(self, event):
        words = shlex.split(event.target)
        done = self.lab.command(self._asked(words), words, COMMAND_SECONDS)
        told = "done" if done.returncode == 0 else f"{done.stdout.strip()[-1500:]} {done.stderr.strip()}"
        if told != self._refusals.get(event):
            self.say(f"{self._now():6.1f} s  {event.target}: {told}")
        self._refusals[event] = told
        return done.returncode == 0

    def _asked(self, words):
        """A node that is ready; where the home goes to, when the command says so: what it leaves may be cut off."""
        to = words[words.index("--to") + 1] if "--to" in words else None
        alive = [n for n in NODES if n not in self._down | self._paused]
        for node in sorted(alive, key=lambda n: (NODES[n] != to, n)):
            if http.status(self.lab.admin(node), "/readyz") == 200:
                return node
        raise AssertionError("no node is ready to be asked")

    def _resolve(self, target):
        if target.startswith("leader:"):
            return [f"n{n}" for n in self._nodes(target)]
        return [target]

    def _nodes(self, target):
        if target in DCS:
            return [n for n, dc in NODES.items() if dc == target]
        if target.startswith("leader:"):
            topic = target.split(":", 1)[1]
            return [wait.until(f"somebody who knows the leader of {topic}", lambda: self._leader(topic), LEADER_SECONDS, 0.2)]
        return [int(target[1:])]

    def _leader(self, topic):
        """As the first node that answers and names one that is not down already says."""
        for node in NODES:
            if node not in self._down | self._paused:
                with contextlib.suppress(OSError, AssertionError, KeyError):
                    leader, _ = kafka.leader(self.lab.kafka(node), topic)
                    if leader > 0 and leader not in self._down | self._paused:
                        return leader
        return None

    def _expected_to_live(self):
        for node, process in self.lab.processes.items():
            if not process.alive():
                raise AssertionError(f"node {node} has ended by itself:\n{process.tail(20)}")


def ways_of(target):
    """`a|b` is both ways, `a>b` is one."""
    if "|" in target:
        a, b = target.split("|")
        return [(a, b), (b, a)]
    return [tuple(target.split(">"))]
