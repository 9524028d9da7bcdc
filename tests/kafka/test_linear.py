"""Topics made and deleted by many at once, while nodes die: as if one after another (S11)."""

import contextlib
import itertools
import random
import threading
import time
from dataclasses import replace

import pytest

from harness import wait, wire
from harness.linear import DELETE, DONE, MAKE, REFUSED, UNKNOWN, Op, is_linearizable

EXISTS, NO_SUCH_TOPIC, NOT_CONTROLLER = 36, 3, 41
SECONDS, CLIENTS, NAMES_AT_ONCE, NAME_SECONDS = 25, 4, 3, 4
ANSWER_SECONDS = 5


def begin(connection, what, name):
    """Asks; the answer's code comes of what is returned."""
    return (wire.begin_create if what == MAKE else wire.begin_delete)(connection, name, ANSWER_SECONDS * 1000)


def ask(connection, what, name):
    return begin(connection, what, name)()


class Client(threading.Thread):
    """One operation after another, each at some node that ought to live."""

    def __init__(self, one, names, alive, seed):
        super().__init__(daemon=True)
        self.one, self.names, self.alive, self.random = one, names, alive, random.Random(seed)
        self.history, self.stopping, self.trouble = [], threading.Event(), None

    def run(self):
        try:
            while not self.stopping.is_set():
                self.act()
        except Exception as error:  # told by the check, which else would miss it
            self.trouble = error

    def act(self):
        node, name, what = self.random.choice(self.alive()), self.random.choice(self.names()), self.random.choice((MAKE, DELETE))
        invoked = time.monotonic()
        try:
            with wire.Connection(self.one.kafka(node), seconds=2 * ANSWER_SECONDS) as connection:
                code = ask(connection, what, name)
        except (OSError, AssertionError):
            code = None
        refused = EXISTS if what == MAKE else NO_SUCH_TOPIC
        if code == NOT_CONTROLLER:
            return  # nothing was done
        outcome = DONE if code == wire.NONE else REFUSED if code == refused else UNKNOWN
        self.history.append((name, Op(what, outcome, invoked, time.monotonic())))


@pytest.mark.timeout(300)
def test_making_and_deleting_topics_is_linearizable_while_nodes_die(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    began, down, dice = time.monotonic(), set(), random.Random()

    def names():
        generation = int((time.monotonic() - began) / NAME_SECONDS)
        return [f"{topic}-{generation}-{n}" for n in range(NAMES_AT_ONCE)]

    clients = [Client(one, names, lambda: [n for n in one.numbers() if n not in down], n) for n in range(CLIENTS)]
    for client in clients:
        client.start()
    killed = 0
    for kill in itertools.cycle((True, False)):
        if time.monotonic() - began > SECONDS:
            break
        # Whoever leads `__meta`, or anybody.
        told = one.cli(dice.choice(one.numbers())).json("cluster", "status")["controller"]
        node = told if told and dice.random() < 0.6 else dice.choice(one.numbers())
        wait.for_seconds(1)
        killed += 1
        if kill:
            one.kill9(node)
        else:
            one.stop(node)
        down.add(node)
        wait.for_seconds(3)
        if kill:
            one.start(node)
        else:
            one.cont(node)
        down.discard(node)
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(60)
        assert client.trouble is None, client.trouble
    by_name = {}
    for name, op in itertools.chain.from_iterable(client.history for client in clients):
        by_name.setdefault(name, []).append(op)
    ops = list(itertools.chain.from_iterable(by_name.values()))
    counted = {outcome: sum(op.outcome == outcome for op in ops) for outcome in (DONE, REFUSED, UNKNOWN)}
    figure(f"{len(ops)} topics made and deleted under {killed} faults of nodes, of {len(by_name)} names: {counted}")
    wrong = {name: history for name, history in by_name.items() if not is_linearizable(history)}
    assert not wrong, "\n".join(f"{name}: {sorted(history, key=lambda op: op.invoked)}" for name, history in wrong.items())
    assert counted[DONE] >= 50 and counted[REFUSED] >= 10, counted


def test_a_leader_that_was_frozen_refuses_nothing_by_what_it_knew(cluster, topic):
    """Asked while it sleeps, after others made and deleted topics: it leads no more when it wakes, and is first to
    learn so from nobody."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    old, new = ([f"{topic}-{when}-{n}" for n in range(5)] for when in ("old", "new"))
    leader = wait.until("a leader of __meta", lambda: one.cli(1).json("cluster", "status")["controller"], 30)
    witness = next(node for node in one.numbers() if node != leader)
    with wire.Connection(one.kafka(witness)) as connection:
        assert {ask(connection, MAKE, name) for name in old} == {wire.NONE}
    with contextlib.ExitStack() as open_ones:
        sleeping = [open_ones.enter_context(wire.Connection(one.kafka(leader))) for _ in (*old, *new)]
        for connection in sleeping:
            wire.api_versions(connection)
        one.stop(leader)
        try:
            other = lambda: one.cli(witness).json("cluster", "status")["controller"] not in (None, leader)
            wait.until("another leader of __meta", other, 60)
            with wire.Connection(one.kafka(witness)) as connection:
                assert {ask(connection, DELETE, name) for name in old} == {wire.NONE}
                assert {ask(connection, MAKE, name) for name in new} == {wire.NONE}
            asked = [(MAKE, name) for name in old] + [(DELETE, name) for name in new]
            answers = [begin(connection, *what) for connection, what in zip(sleeping, asked)]
        finally:
            one.cont(leader)
        assert {what: answer() for what, answer in zip(asked, answers)} == dict.fromkeys(asked, wire.NONE)


GOOD = [
    Op(MAKE, DONE, 0, 1),
    Op(MAKE, REFUSED, 2, 3),
    Op(DELETE, DONE, 4, 6),
    Op(DELETE, REFUSED, 5, 7),
    Op(MAKE, DONE, 8, 9),
]


def changed(at, **fields):
    return [replace(op, **fields) if n == at else op for n, op in enumerate(GOOD)]


def test_the_checker_takes_what_may_be():
    assert is_linearizable(GOOD)
    assert is_linearizable([replace(op, outcome=UNKNOWN) for op in GOOD])
    assert is_linearizable(changed(2, outcome=UNKNOWN)), "done, though nobody heard"
    assert is_linearizable([*GOOD, Op(DELETE, UNKNOWN, 10, 11), Op(MAKE, DONE, 20, 21)]), "it took effect late"


@pytest.mark.parametrize(
    "history",
    [
        changed(1, outcome=DONE),
        changed(0, outcome=REFUSED),
        changed(3, invoked=3.2, ended=3.5),
        changed(4, outcome=REFUSED),
        [op for n, op in enumerate(GOOD) if n != 2],
        [*GOOD, Op(MAKE, DONE, 10, 11)],
    ],
    ids=["made twice", "there too soon", "deleted before", "there though deleted", "gone by itself", "lost"],
)
def test_the_checker_finds_what_cannot_be(history):
    assert not is_linearizable(history)
