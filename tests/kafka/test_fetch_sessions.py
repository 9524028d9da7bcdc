"""Incremental fetch sessions (KIP-227): a consumer names what changed, and is told what changed."""

import pytest

from harness import batch, kafka, wire

PARTITIONS = 6


@pytest.fixture
def pair(broker, topic):
    """Two partitions that one node leads, and a connection to it."""
    kafka.create_topic(broker.bootstrap(), topic, PARTITIONS)
    found = wire.metadata(broker.kafka(1), [topic])
    leaders = [found["topics"][topic]["partitions"][n]["leader"] for n in range(PARTITIONS)]
    leader = max(leaders, key=leaders.count)
    first, second = [n for n in range(PARTITIONS) if leaders[n] == leader][:2]
    with wire.Connection(found["brokers"][leader]["address"]) as connection:
        yield connection, first, second


def test_an_incremental_fetch_is_told_only_what_changed(pair, topic):
    connection, first, second = pair
    produce = lambda partition: wire.produce(connection, topic, partition, batch.encode([b"x"]))[0]
    error, session, told = wire.fetch_in_session(connection, 0, 0, topic, {first: 0, second: 0})
    assert (error, set(told)) == (wire.NONE, {first, second}) and session > 0

    def go_on(epoch, offsets=None, forgotten=()):
        error, same, told = wire.fetch_in_session(connection, session, epoch, topic, offsets or {}, forgotten)
        assert (error, same) == (wire.NONE, session)
        return {partition: len(batch.split(found["records"])) for partition, found in told.items()}

    assert go_on(1) == {}, "nothing happened"
    assert produce(second) == wire.NONE
    assert go_on(2) == {second: 1}
    assert go_on(3, {second: 1}) == {}, "it is read up to there"
    assert produce(first) == produce(second) == wire.NONE
    assert go_on(4) == {first: 1, second: 1}
    # What is forgotten is not told of, whatever happens to it.
    assert produce(second) == wire.NONE
    assert go_on(5, {first: 1}, forgotten=[second]) == {}
    assert go_on(6, {second: 0}) == {second: 3}


def test_another_epoch_or_session_than_is_due_is_refused(pair, topic):
    connection, first, _ = pair
    _, session, _ = wire.fetch_in_session(connection, 0, 0, topic, {first: 0})
    fetch = lambda session, epoch: wire.fetch_in_session(connection, session, epoch, topic, {})[0]
    assert fetch(session, 2) == wire.INVALID_FETCH_SESSION_EPOCH
    assert fetch(session ^ 1, 1) == wire.FETCH_SESSION_ID_NOT_FOUND
    assert fetch(session, 1) == wire.NONE, "none of them used up the epoch that is due"
    assert fetch(session, 1) == wire.INVALID_FETCH_SESSION_EPOCH
    # Epoch -1 ends it.
    assert wire.fetch_in_session(connection, session, -1, topic, {first: 0})[1] == 0
    assert fetch(session, 2) == wire.FETCH_SESSION_ID_NOT_FOUND
