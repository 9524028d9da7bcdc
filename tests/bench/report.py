"""What was measured against what is claimed: floors make a run red, targets are only told."""

import statistics

# The claims of the system that this project succeeds, by the rows of its table: what, unit, figures,
# and whether less is better. Of latencies: p50, p95 and p99.
TARGETS = {
    "S65": ("produce, acks=1", "ms", (2, 5, 10), True),
    "S66": ("produce, acks=all", "ms", (5, 12, 25), True),
    "S67": ("fetch from the leader", "ms", (1, 2, 5), True),
    "S68": ("fetch from a follower", "ms", (1, 2, 5), True),
    "S69": ("topic create", "ms", (50, 100, 150), True),
    "S70": ("leader killed until the first ack", "s", (1.5, 2.5, 3), True),
    "S71": ("one producer, acks=all", "records/s", (50_000,), False),
    "S72": ("three producers, acks=all", "records/s", (120_000,), False),
    "S73": ("one consumer, hot", "records/s", (80_000,), False),
    "S73, cold": ("one consumer, cold", "records/s", (80_000,), False),
    "S74": ("three consumers in a group, hot", "records/s", (200_000,), False),
    "G4": ("sync throughput of async's at 100 ms RTT", "%", (90,), False),
}


class Report:
    def __init__(self):
        self.missed, self._reached = [], {}

    def floor(self, text, holds):
        if not holds:
            self.missed.append(text)

    def reached(self, row, system, *figures):
        self._reached[row, system] = figures

    def summary(self, systems):
        """One line a target: claimed, and what each system reached."""
        table = [["", "what", "claimed", *systems, f"{systems[0]} meets it"]]
        for row, (what, unit, claimed, less) in TARGETS.items():
            reached = [self._reached.get((row, system)) for system in systems]
            if not any(reached):
                continue
            mine = reached[0]
            holds = mine and all(m <= c if less else m >= c for m, c in zip(mine, claimed, strict=True))
            verdict = "not measured" if mine is None else "met" if holds else "missed"
            told = [figures and f"{written(figures)} {unit}" or "-" for figures in (claimed, *reached)]
            table.append([row, what, *told, verdict])
        print_table(table)


def written(figures):
    return " / ".join(f"{figure:,.0f}" if figure >= 100 or figure == int(figure) else f"{figure:.2f}" for figure in figures)


def spread(values, digits=0):
    """`median (least to most)` of the runs."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def print_table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)
