"""A scenario: links, topics, load and events, parsed strictly. deploy/scenarios/README.md is its manual."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lab.link import Shape

DCS = ("fra", "iad", "sin")
NODES_PER_DC = 3
NODES = {number: DCS[(number - 1) // NODES_PER_DC] for number in range(1, 1 + NODES_PER_DC * len(DCS))}
# A node refuses to produce below 256 MB free: a smaller disk would be full from the start.
SMALL_DISK_MEGABYTES = (384, 2048)
VERSION = 1

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_RATES = {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}
# What an event does, and which other keys belong to it: True where one must stand.
_ACTIONS = {
    "cut": {"for": True},
    "isolate": {"for": True},
    "flap": {"for": True, "every": True},
    "slow": {"for": True, "rtt": False, "jitter": False, "loss": False, "rate": False, "duplicate": False},
    "kill": {"for": True, "wipe": False},
    "pause": {"for": True},
    "fill": {"for": True},
    "run": {"background": False, "may_fail": False, "within": False},
}


class Bad(Exception):
    """A scenario that cannot be run as it is written. The text has the file, the line or path, and the mend."""


@dataclass(frozen=True)
class Topic:
    name: str
    partitions: int
    config: dict


@dataclass(frozen=True)
class Event:
    at: float
    action: str
    target: str
    lasts: float = 0.0
    every: float = 0.0
    shape: Shape | None = None
    wipe: bool = False
    background: bool = False
    may_fail: bool = False
    within: float = 0.0

    def __str__(self):
        lasts = f" for {self.lasts:g} s" if self.lasts else ""
        return f"{self.at:g} s: {self.action} {self.target}{lasts}{' and wipe' if self.wipe else ''}"


@dataclass(frozen=True)
class Scenario:
    name: str
    seconds: float
    links: dict
    topics: tuple
    rate: float
    events: tuple
    small_disks: dict


def load(path):
    text = Path(path).read_text()
    return parse(text, str(path))


def parse(text, where="scenario"):
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Bad(f"{where}: {error}") from error
    return _Reader(where, text).scenario(table)


class _Reader:
    def __init__(self, where, text):
        self.where, self.lines = where, text.splitlines()

    def bad(self, path, text):
        key = re.escape(path.rsplit(".", 1)[-1].split("[")[0])
        found = [n for n, line in enumerate(self.lines, 1) if re.match(rf"\s*(\[*\s*)?{key}\s*(=|\])", line)]
        line = f":{found[0]}" if len(found) == 1 else ""
        return Bad(f"{self.where}{line}: {path}: {text}")

    def keys(self, table, path, known):
        if not isinstance(table, dict):
            raise self.bad(path, "must be a table")
        for key in table:
            if key not in known:
                raise self.bad(f"{path}.{key}".lstrip("."), f"unknown key; known are {', '.join(sorted(known))}")

    def get(self, table, path, key, kind, default=None):
        value = table.get(key, default)
        if value is None:
            raise self.bad(f"{path}.{key}".lstrip("."), "is missing")
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            raise self.bad(f"{path}.{key}".lstrip("."), f"must be {getattr(kind, '__name__', 'a number')}, not {value!r}")
        return value

    def scenario(self, table):
        self.keys(table, "", {"version", "name", "seconds", "link", "topic", "load", "event", "small_disk"})
        if self.get(table, "", "version", int) != VERSION:
            raise self.bad("version", f"this reader knows version {VERSION}")
        events = [self.event(e, f"event[{i}]") for i, e in enumerate(table.get("event", []))]
        seconds = self.duration(table, "", "seconds")
        for i, event in enumerate(events):
            if event.at + event.lasts > seconds:
                raise self.bad(f"event[{i}]", f"ends at {event.at + event.lasts:g} s, after the scenario's {seconds:g} s")
        links = {}
        for i, entry in enumerate(table.get("link", [])):
            path = f"link[{i}]"
            self.keys(entry, path, {"between", "rtt", "jitter", "loss", "rate", "duplicate"})
            between = entry.get("between")
            if not isinstance(between, list) or len(between) != 2 or not set(between) <= set(DCS) or between[0] == between[1]:
                raise self.bad(f"{path}.between", f"must be two of {', '.join(DCS)}, not {between!r}")
            links[frozenset(between)] = self.shape(entry, path)
        disks = {}
        for i, entry in enumerate(table.get("small_disk", [])):
            path = f"small_disk[{i}]"
            self.keys(entry, path, {"node", "megabytes"})
            node, size = self.get(entry, path, "node", int), self.get(entry, path, "megabytes", int)
            low, high = SMALL_DISK_MEGABYTES
            if node not in NODES or not low <= size <= high:
                raise self.bad(path, f"a node of 1 to {len(NODES)} and {low} to {high} megabytes, not {node} and {size}")
            disks[node] = size
        for i, event in enumerate(events):
            if event.action == "fill" and int(event.target[1:]) not in disks:
                raise self.bad(f"event[{i}].fill", f"{event.target} has no [[small_disk]] to fill")
        load_table = table.get("load", {})
        self.keys(load_table, "load", {"rate"})
        rate = float(self.get(load_table, "load", "rate", (int, float), 30))
        if not 1 <= rate <= 5000:
            raise self.bad("load.rate", f"1 to 5000 records a second and datacenter, not {rate:g}")
        topics = tuple(self.topic(t, f"topic[{i}]") for i, t in enumerate(table.get("topic", [])))
        if not topics:
            raise self.bad("topic", "a scenario needs a topic")
        events.sort(key=lambda event: event.at)
        return Scenario(self.get(table, "", "name", str), seconds, links, topics, rate, tuple(events), disks)

    def topic(self, table, path):
        self.keys(table, path, {"name", "partitions", "config"})
        config = table.get("config", {})
        partitions = self.get(table, path, "partitions", int, 1)
        if not 1 <= partitions <= 64:
            raise self.bad(f"{path}.partitions", f"1 to 64, not {partitions}")
        if not isinstance(config, dict) or not all(isinstance(v, str) for v in config.values()):
            raise self.bad(f"{path}.config", "a table of topic configs, each a text")
        return Topic(self.get(table, path, "name", str), partitions, config)

    def event(self, table, path):
        actions = [key for key in table if key in _ACTIONS] if isinstance(table, dict) else []
        if len(actions) != 1:
            known = {key for keys in _ACTIONS.values() for key in keys} | {"at", *_ACTIONS}
            self.keys(table, path, known)
            raise self.bad(path, f"must have one of {', '.join(_ACTIONS)}; has {', '.join(actions) or 'none'}")
        (action,) = actions
        extra = _ACTIONS[action]
        self.keys(table, path, {"at", action, *extra})
        for key, must in extra.items():
            if must and key not in table:
                raise self.bad(f"{path}.{key}", f"is missing: `{action}` needs it")
        target = self.get(table, path, action, str)
        self.target(f"{path}.{action}", action, target)
        flags = {k: self.get(table, path, k, bool, False) for k in ("wipe", "background", "may_fail")}
        lasts = self.duration(table, path, "for") if "for" in table else 0.0
        every = self.duration(table, path, "every") if "every" in table else 0.0
        flags["within"] = self.duration(table, path, "within") if "within" in table else 0.0
        if action == "flap" and not 0.1 <= every <= lasts / 2:
            raise self.bad(f"{path}.every", f"from 100ms to half of its {lasts:g} s")
        shape = self.shape(table, path) if action == "slow" else None
        return Event(self.duration(table, path, "at"), action, target, lasts, every, shape, **flags)

    def target(self, path, action, target):
        places = {*DCS, *(f"n{n}" for n in NODES)}
        if action in ("cut", "flap", "slow"):
            pair = re.fullmatch(r"(\w+)([|>])(\w+)", target)
            known = set(DCS) if action == "slow" else places
            if not pair or not {pair[1], pair[3]} <= known or pair[1] == pair[3]:
                raise self.bad(path, f"`a|b` (both ways) or `a>b`, of {', '.join(sorted(known))}; not {target!r}")
        elif action == "fill" and target not in places - set(DCS):
            raise self.bad(path, f"a node, n1 to n{len(NODES)}; not {target!r}")
        elif action in ("isolate", "kill", "pause") and target not in places and not target.startswith("leader:"):
            raise self.bad(path, f"a datacenter, a node (n1) or `leader:TOPIC`; not {target!r}")

    def shape(self, table, path):
        def optional(key, of):
            return of(table, path, key) if key in table else 0.0

        half = optional("rtt", self.duration) / 2
        return Shape(half, optional("jitter", self.duration), optional("loss", self.share), optional("duplicate", self.share), optional("rate", self.bits))

    def duration(self, table, path, key):
        return self.quantity(table, path, key, _UNITS, "a duration: 80ms, 5s, 2m")

    def bits(self, table, path, key):
        return self.quantity(table, path, key, _RATES, "a rate: 500kbit, 20Mbit, 1Gbit")

    def share(self, table, path, key):
        share = self.quantity(table, path, key, {"%": 0.01}, "a share: 0.5%")
        if share > 1:
            raise self.bad(f"{path}.{key}", "more than 100%")
        return share

    def quantity(self, table, path, key, units, what):
        text = self.get(table, path, key, str)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z%]+)", text)
        if not found or found[2] not in units:
            raise self.bad(f"{path}.{key}".lstrip("."), f"{what}; not {text!r}")
        return float(found[1]) * units[found[2]]
