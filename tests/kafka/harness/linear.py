"""Whether a history of making and deleting one name could have happened one operation after another (Herlihy and
Wing 1990; the search is Wing and Gong's, with Lowe's memory of what it has seen)."""

from dataclasses import dataclass

MAKE, DELETE = "make", "delete"
# What was answered: done; refused since the name is there (make) or is not (delete); or nobody knows.
DONE, REFUSED, UNKNOWN = "done", "refused", "unknown"


@dataclass(frozen=True)
class Op:
    what: str
    outcome: str
    invoked: float
    ended: float

    def may_follow(self, is_there):
        """`(whether it may happen in that state, whether the name is there then)`."""
        wanted = self.what == MAKE
        if self.outcome == REFUSED:
            return is_there == wanted, is_there
        # One that nobody knows the end of may as well have been refused.
        return self.outcome == UNKNOWN or is_there != wanted, wanted


def is_linearizable(ops):
    """From a name that is not there."""
    ops = sorted(ops, key=lambda op: op.invoked)
    certain = frozenset(n for n, op in enumerate(ops) if op.outcome != UNKNOWN)
    seen, stack = set(), [(frozenset(), False)]
    while stack:
        done, is_there = stack.pop()
        if certain <= done:
            return True
        if (done, is_there) in seen:
            continue
        seen.add((done, is_there))
        # Whatever ended before another began comes before it.
        open_until = min(op.ended for n, op in enumerate(ops) if n in certain and n not in done)
        for n, op in enumerate(ops):
            if n not in done and op.invoked <= open_until:
                may, then = op.may_follow(is_there)
                if may:
                    stack.append((done | {n}, then))
    return False
