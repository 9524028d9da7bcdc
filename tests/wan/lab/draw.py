"""A scenario out of a seed: the nemesis of the random runs. The same seed gives the same text."""

import random

from lab.scenario import DCS, NODES

SECONDS = 60
PAIRS = ("fra|iad", "fra|sin", "iad|sin")
TOPICS = ("strict", "near")


def text(seed):
    rng = random.Random(seed)
    lines = ["version = 1", f'name = "seed-{seed}"', f'seconds = "{SECONDS}s"']
    for pair in PAIRS:
        a, b = pair.split("|")
        loss = rng.choice(("0%", "0.2%", "1%"))
        lines += ["[[link]]", f'between = ["{a}", "{b}"]', f'rtt = "{rng.randrange(10, 200)}ms"', f'jitter = "{rng.randrange(6)}ms"']
        lines += [f'loss = "{loss}"', f'duplicate = "{rng.choice((0, 0, 0.5))}%"']
    home = rng.choice(DCS)
    lines += ["[[topic]]", 'name = "strict"', "partitions = 2", f'config = {{ "isobar.replication" = "sync", "isobar.home" = "{home}" }}']
    lines += ["[[topic]]", 'name = "near"', "partitions = 2", f'config = {{ "isobar.home" = "{rng.choice(DCS)}" }}']
    lines += ["[load]", "rate = 30"]
    at = 4
    while at < SECONDS - 20:
        lines += ["[[event]]", f'at = "{at}s"', *_fault(rng)]
        at += rng.randrange(2, 9)
    return "\n".join(lines) + "\n"


def _fault(rng):
    lasts = rng.randrange(2, 13)
    node = rng.choice([f"n{n}" for n in NODES] + [f"leader:{t}" for t in TOPICS])
    pair = rng.choice(PAIRS)
    a, b = pair.split("|")
    target = rng.choice(DCS)
    faults = (
        (f'cut = "{pair}"', f'for = "{lasts}s"'),
        (f'cut = "{rng.choice((f"{a}>{b}", f"{b}>{a}"))}"', f'for = "{lasts}s"'),
        (f'flap = "{pair}"', f'for = "{lasts}s"', 'every = "700ms"'),
        (f'slow = "{pair}"', f'for = "{lasts}s"', f'rtt = "{rng.randrange(200, 600)}ms"', 'loss = "3%"'),
        (f'kill = "{node}"', f'for = "{lasts}s"'),
        (f'pause = "{node}"', f'for = "{lasts}s"'),
        (f'isolate = "{node}"', f'for = "{lasts}s"'),
        (f'isolate = "{target}"', f'for = "{lasts}s"'),
        (f'kill = "{target}"', f'for = "{lasts}s"'),
        (f'run = "dc switchover {rng.choice([d for d in DCS if d != target])} --to {target} --topics *r* --yes"', "background = true", "may_fail = true"),
    )
    return rng.choice(faults)
