"""A history of sends and reads, and what must hold of it.

After the checks of `jepsen.tests.kafka`, whose names the anomalies keep where they have one, plus
what only one log in several DCs can break. A send whose outcome nobody knows stays open: its value
may be there or not.
"""

from collections import defaultdict
from dataclasses import dataclass

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"


@dataclass(frozen=True)
class Send:
    """One value sent by one producer to one partition. Times are of one monotonic clock."""

    producer: str
    partition: int
    sequence: int
    value: str
    outcome: str
    # `None` where its client takes it for acknowledged because what it sent after it was, as librdkafka does.
    offset: int | None = -1
    invoked: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True)
class Read:
    """One record as a reader in one place (a DC, or a node) saw it."""

    place: str
    partition: int
    offset: int
    value: str


def anomalies(sends, reads, idempotent=True, places=None):
    """Everything that is wrong, one line each; an empty list is a good history.

    `reads` must be the whole log of every partition as each place showed it after the end.
    """
    found = []
    by_value = {send.value: send for send in sends}
    assert len(by_value) == len(sends), "values of a history are unique"
    logs = defaultdict(dict)
    for read in reads:
        log = logs[read.place, read.partition]
        if read.offset in log:
            found.append(f"int-nonmonotonic-poll: {read.place} read offset {read.offset} of {read.partition} twice")
        log[read.offset] = read.value
    places = sorted(places or {place for place, _ in logs})
    partitions = sorted({send.partition for send in sends} | {partition for _, partition in logs})

    for place in places:
        for partition in partitions:
            log = logs.get((place, partition), {})
            mine = [send for send in sends if send.partition == partition]
            found += _lost(place, log, mine)
            found += _unsent(place, log, by_value, partition)
            found += _gaps(place, partition, log)
            if idempotent:
                found += _duplicates(place, log)
                found += _order(place, log, by_value)
    for partition in partitions:
        found += _disagreement(partition, {p: logs.get((p, partition), {}) for p in places})
        found += _real_time([send for send in sends if send.partition == partition])
    return found


def _lost(place, log, sends):
    values = set(log.values())
    for send in sends:
        if send.outcome == OK and send.offset is None:
            if send.value not in values:
                yield f"lost-write: {send.value} was acknowledged; {place} does not have it"
        elif send.outcome == OK and log.get(send.offset) != send.value:
            there = log.get(send.offset, "nothing")
            yield f"lost-write: {send.value} was acknowledged at {send.offset}; {place} has {there} there"


def _unsent(place, log, by_value, partition):
    for offset, value in sorted(log.items()):
        send = by_value.get(value)
        if send is None:
            yield f"phantom: {place} reads {value} at {offset}, which nobody sent"
        elif send.partition != partition:
            yield f"misplaced: {value} was sent to {send.partition}; {place} reads it in {partition}"
        elif send.outcome == FAIL:
            yield f"G1a: {place} reads {value} at {offset}, which certainly failed"


def _gaps(place, partition, log):
    if log and sorted(log) != list(range(min(log), max(log) + 1)):
        missing = sorted(set(range(min(log), max(log) + 1)) - set(log))
        yield f"poll-skip: {place} misses {len(missing)} offsets of {partition}, from {missing[0]}"


def _duplicates(place, log):
    seen = {}
    for offset, value in sorted(log.items()):
        if value in seen:
            yield f"duplicate: {place} reads {value} at {seen[value]} and {offset}"
        seen[value] = offset


def _order(place, log, by_value):
    last = {}
    for offset, value in sorted(log.items()):
        send = by_value.get(value)
        if send and last.get(send.producer, -1) > send.sequence:
            yield f"nonmonotonic-send: {place} reads {value} of {send.producer} at {offset}, after a later one"
        if send:
            last[send.producer] = max(last.get(send.producer, -1), send.sequence)


def _disagreement(partition, logs):
    seen = {}
    for place, log in sorted(logs.items()):
        for offset, value in log.items():
            other, theirs = seen.setdefault(offset, (place, value))
            if theirs != value:
                yield (
                    f"inconsistent-offsets: {partition} at {offset} is {theirs} in {other} "
                    f"and {value} in {place}"
                )


def _real_time(sends):
    """What was acknowledged before another send began has the smaller offset."""
    known = [send for send in sends if send.outcome == OK and send.offset is not None]
    acknowledged, began = sorted(known, key=lambda send: send.ended), sorted(known, key=lambda send: send.invoked)
    at, highest = 0, None
    for send in began:
        while at < len(acknowledged) and acknowledged[at].ended < send.invoked:
            if highest is None or acknowledged[at].offset > highest.offset:
                highest = acknowledged[at]
            at += 1
        if highest and highest.offset >= send.offset:
            yield f"real-time: {send.value} began after {highest.value} was acknowledged, and stands before it"
