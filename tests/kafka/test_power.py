"""Nodes lose their power in the middle of everything, again and again (S15)."""

import os
import random

import pytest

from conftest import LONG
from harness import dumps, http, kafka
from harness.load import Load, check, read_back

CUTS = 200 if LONG else 3


class Terms:
    """What each voter says of its term and role, whenever it is asked."""

    def __init__(self, one, topic):
        self.one, self.topic = one, topic
        self.newest, self.leaders = {}, {}

    def look(self):
        for node in self.one.in_dc("fra"):
            try:
                scrape = http.text(self.one.admin(node), "/metrics")
            except OSError:
                continue  # Not up yet.
            of = {"topic": self.topic, "partition": "0"}
            term = [value for _, value in http.samples_in(scrape, "isobar_raft_term", **of)]
            role = [labels["role"] for labels, _ in http.samples_in(scrape, "isobar_raft_role", **of)]
            if term:
                before = self.newest.get(node, 0)
                assert term[0] >= before, f"node {node} was in term {before} and is in {term[0]}"
                self.newest[node] = term[0]
            if role == ["leader"]:
                other = self.leaders.setdefault(term[0], node)
                assert other == node, f"nodes {other} and {node} lead in term {term[0]}"


@pytest.mark.alone
@pytest.mark.timeout(CUTS * 30 + 120)
def test_power_cuts_at_any_moment_lose_nothing_and_take_no_term_back(cluster, topic, figure):
    """One voter, two or all nodes, whatever of their unsynced writes stays or tears."""
    seed = int(os.environ.get("ISOBAR_POWER_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ISOBAR_POWER_SEED={seed}")
    dice = random.Random(seed)
    one = cluster({"fra": 3, "iad": 1, "sin": 1}, faulty_disks=True)
    kafka.create_topic(one.bootstrap(), topic)
    terms, lost_bytes, lost_names = Terms(one, topic), 0, 0
    with Load(one.bootstrap("fra"), topic, rate=300, timeout_seconds=300) as load:
        for cut in range(CUTS):
            load.wait_acknowledged(dice.randrange(1, 100), seconds=60)
            terms.look()
            voters = one.in_dc("fra")
            victims = dice.choice([dice.sample(voters, 1), dice.sample(voters, 2), one.numbers()])
            # 0: all that was not synced.
            spares = dice.choice([0, dice.randrange(1, 1 << 32)])
            if cut == 0:
                # Whatever the dice say, everything once.
                victims, spares = one.numbers(), 0
            lost = one.cut_power(victims, spares)
            lost_bytes, lost_names = lost_bytes + lost[0], lost_names + lost[1]
            one.start(*victims, ready=False)
            # Or the next one comes while they start.
            if dice.random() < 0.5:
                one.wait_ready()
            load.wait_acknowledged(1, seconds=60)
            terms.look()
        one.wait_ready()
        load.wait_acknowledged(100, seconds=60)
    figure(
        f"{CUTS} power cuts, seed {seed}: {lost_bytes} bytes and {lost_names} names lost, {len(terms.leaders)} terms seen led, "
        f"{len(load.acknowledged())} acks"
    )
    assert load.failures() == []
    places = {"fra": one.bootstrap("fra"), "iad": one.bootstrap("iad")}
    check(load.sends(), read_back(places, topic, 1), list(places))
    dumps.wait_same(one, topic, 1)
    assert lost_bytes and len(terms.leaders) > 1, "a power cut that takes nothing tests nothing"
