"""The checker itself: each anomaly, broken by hand into a good history, is found."""

from dataclasses import replace

import pytest

from harness.history import FAIL, OK, UNKNOWN, Read, Send, anomalies

SENDS = [Send("p", 0, n, f"v{n}", OK, n, invoked=n, ended=n + 0.5) for n in range(5)]
READS = [Read(place, 0, send.offset, send.value) for place in ("fra", "iad") for send in SENDS]


def kinds(sends, reads, **kwargs):
    return {line.split(":")[0] for line in anomalies(sends, reads, **kwargs)}


def changed(items, at, **fields):
    return [replace(item, **fields) if index == at else item for index, item in enumerate(items)]


def test_a_good_history_is_good():
    assert anomalies(SENDS, READS) == []


def test_an_unknown_outcome_may_be_there_or_not():
    sends = SENDS + [Send("p", 0, 5, "v5", UNKNOWN, invoked=5, ended=9)]
    assert anomalies(sends, READS) == []
    assert anomalies(sends, READS + [Read(place, 0, 5, "v5") for place in ("fra", "iad")]) == []


def test_what_is_acknowledged_without_an_offset_may_stand_anywhere():
    assert anomalies(changed(SENDS, 1, offset=None), READS) == []


@pytest.mark.parametrize(
    ("kind", "sends", "reads"),
    [
        ("lost-write", SENDS, READS[:4] + READS[5:9]),
        ("lost-write", SENDS, [read for read in READS if read.place == "fra"]),
        ("lost-write", SENDS, changed(READS, 2, value="v9")),
        ("lost-write", changed(SENDS, 2, offset=None), changed(READS, 2, value="v9")),
        ("phantom", SENDS, changed(READS, 2, value="v9")),
        ("misplaced", changed(SENDS, 1, partition=1), READS),
        ("G1a", changed(SENDS, 4, outcome=FAIL), READS),
        ("poll-skip", changed(SENDS, 2, outcome=UNKNOWN), READS[:2] + READS[3:]),
        ("duplicate", SENDS, READS + [Read("fra", 0, 5, "v0")]),
        ("nonmonotonic-send", changed(changed(SENDS, 0, sequence=1), 1, sequence=0), READS),
        ("inconsistent-offsets", changed(SENDS, 3, outcome=UNKNOWN), changed(READS, 3, value="v4")),
        ("int-nonmonotonic-poll", SENDS, READS + READS[:1]),
        ("real-time", changed(SENDS, 4, invoked=-2, ended=-1), READS),
    ],
)
def test_a_broken_history_is_found(kind, sends, reads):
    assert kind in kinds(sends, reads, places=["fra", "iad"])


def test_a_partition_that_no_place_shows_is_lost():
    assert kinds(SENDS, [], places=["fra"]) == {"lost-write"}
