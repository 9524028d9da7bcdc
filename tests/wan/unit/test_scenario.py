"""Scenarios are read strictly; the shipped ones and the drawn ones are good."""

import pytest
from lab import draw, scenario

from conftest import WAN

GOOD = """version = 1
name = "s"
seconds = "20s"
[[link]]
between = ["fra", "iad"]
rtt = "80ms"
[[topic]]
name = "t"
[[event]]
at = "1s"
cut = "fra>iad"
for = "2s"
"""


def test_a_good_one_is_read():
    plan = scenario.parse(GOOD)
    assert plan.links[frozenset(("fra", "iad"))].delay == 0.04
    assert (plan.events[0].action, plan.events[0].lasts) == ("cut", 2.0)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('rtt = "80ms"', 'rrt = "80ms"', "scenario:6: link[0].rrt: unknown key"),
        ('rtt = "80ms"', 'rtt = "80"', "link[0].rtt: a duration"),
        ('rtt = "80ms"', "rtt = 80", "link[0].rtt: must be str"),
        ('"fra", "iad"', '"fra", "moon"', "link[0].between: must be two of"),
        ("version = 1", "version = 2", "this reader knows version 1"),
        ('name = "t"', 'name = "t"\npartitions = 0', "1 to 64"),
        ('cut = "fra>iad"', 'cut = "fra-iad"', "event[0].cut: `a|b`"),
        ('cut = "fra>iad"', 'cuts = "fra>iad"', "event[0].cuts: unknown key"),
        ('for = "2s"', "", "event[0].for: is missing"),
        ('for = "2s"', 'for = "2m"', "after the scenario's 20 s"),
        ('for = "2s"', 'for = "2s"\nwipe = true', "event[0].wipe: unknown key"),
        ('cut = "fra>iad"', 'fill = "n1"', "no [[small_disk]] to fill"),
        ("[[topic]]", "[[topik]]", "topik: unknown key"),
    ],
)
def test_a_mistake_is_named_with_its_place(old, new, told):
    assert old in GOOD
    with pytest.raises(scenario.Bad, match="scenario") as raised:
        scenario.parse(GOOD.replace(old, new, 1))
    assert told in str(raised.value)


def test_the_shipped_ones_are_good():
    paths = list((WAN.parents[1] / "deploy" / "scenarios").glob("*.toml"))
    assert len(paths) >= 3
    for path in paths:
        scenario.load(path)


def test_a_seed_draws_a_good_scenario_and_always_the_same():
    for seed in range(300):
        assert scenario.parse(draw.text(seed), f"seed {seed}").events
    assert draw.text(7) == draw.text(7) != draw.text(8)
