"""A replica whose missing records are gone everywhere begins where its leader's log begins."""

import os

import pytest

from harness import dumps, http, kafka, wait

MIB = 1 << 20
SEGMENT_BYTES = MIB
RECORD_BYTES = 16 << 10
TRIES = 5


def send(one, topic, size):
    """Incompressible records; the offset after the last."""
    values = (os.urandom(RECORD_BYTES) for _ in range(size // RECORD_BYTES))
    return 1 + max(kafka.send(one.bootstrap("fra"), topic, values))


def log_start(one, node, topic):
    return next(value for _, value in http.samples(one.admin(node), "isobar_log_start_offset", topic=topic))


def started(cluster, topic):
    """A cluster with a log that all have, and a learner of it."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, segment_bytes=SEGMENT_BYTES)
    send(one, topic, 2 * MIB)
    wait.until("the first checkpoint", lambda: one.dump(1, topic, 0).strip())
    dumps.wait_same(one, topic, 1)
    return one, one.in_dc("iad")[0]


def overtake(one, away, topic, kept):
    """While `away` is dead, all that it has leaves the others' disks; where the log begins, and the
    segments that they then have."""
    start = send(one, topic, 6 * MIB)
    send(one, topic, kept)
    assert kafka.delete_records(one.bootstrap("fra"), topic, start) == start
    newest = dumps.segments(one, away, topic)[-1].name
    others = [n for n in one.numbers() if n != away]
    have = lambda: {path.name for n in others for path in dumps.segments(one, n, topic)}
    wait.until(lambda: f"gone up to {newest}: {min(have())}", lambda: min(have()) > newest)
    return start, have()


def assert_as_the_others(one, away, topic, start, segments):
    dumps.wait_same(one, topic, 1)
    leader, _ = kafka.leader(one.kafka(away), topic)
    assert log_start(one, away, topic) == log_start(one, leader, topic) == start
    assert dumps.segments(one, away, topic)[0].name >= min(segments), "nothing of before is left on its disk"


@pytest.mark.timeout(180)
def test_a_learner_that_deletion_overtook_begins_at_the_log_start(cluster, topic):
    one, away = started(cluster, topic)
    one.kill9(away)
    start, segments = overtake(one, away, topic, 2 * MIB)
    one.start(away)
    assert_as_the_others(one, away, topic, start, segments)
    # It goes on as a learner like any other.
    kafka.send(one.bootstrap("fra"), topic, [b"after"])
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("some", [1, 4])
def test_a_learner_killed_while_it_begins_anew_goes_on_from_there(some, cluster, topic, figure):
    """With the first file of its new log, and with a part of it."""
    one, away = started(cluster, topic)
    one.kill9(away)
    # A machine that is held up may see too late how far it has come.
    for _ in range(TRIES):
        start, segments = overtake(one, away, topic, 32 * MIB)
        one.start(away, ready=False)

        def has(segments=segments):
            return segments.intersection(path.name for path in dumps.segments(one, away, topic))

        wait.until(f"{some} segments from the log start on", lambda: len(has()) >= some, 60, 0.002)
        one.kill9(away)
        if max(segments) not in has():
            break
    figure(f"a learner killed while it began anew had {len(has())} of {len(segments)} segments")
    assert max(segments) not in has(), "each time it was killed too late to tell"
    one.start(away)
    assert_as_the_others(one, away, topic, start, segments)
