"""A replica far behind is fed on the bulk lane, from the nearest replica that has it all."""

import os

import pytest

from harness import dumps, http, kafka, wait

# Tens of megabytes cross the machine: who runs beside would see elections.
pytestmark = pytest.mark.alone

MIB = 1 << 20
# Twice what makes a replica "far behind" (`CATCH_UP_BYTES_MIN`), and some more.
MISSED_BYTES = 80 * MIB


def produce(one, topic, size=MISSED_BYTES):
    """Incompressible records, so that links carry what the log has."""
    kafka.send(one.bootstrap("fra"), topic, (os.urandom(64 << 10) for _ in range(size >> 16)), batch_size=1 << 20)


def value(one, node, name, **labels):
    return sum(value for _, value in http.samples(one.admin(node), name, **labels))


def terms(one, node):
    return {(at["topic"], at["partition"]): term for at, term in http.samples(one.admin(node), "isobar_raft_term")}


def back_after_missing(one, topic, node):
    """The node is killed, misses much, comes back and catches up; the terms of all groups stay."""
    one.kill9(node)
    produce(one, topic)
    leader, _ = kafka.leader(one.kafka(next(n for n in one.in_dc("fra") if n != node)), topic)

    def meta_leader():
        return one.cli(leader).json("cluster", "status")["meta"]["leader"]

    # If the killed node led `__meta`, another has to be elected first: that is no doing of the catch-up.
    wait.until("__meta led by a node that lives", lambda: meta_leader() not in (None, node), 60)
    before = terms(one, leader)

    def behind():
        lags = http.samples(one.admin(leader), "isobar_follower_lag_entries", topic=topic)
        return {at["node"]: entries for at, entries in lags if at["node"] != str(node) and entries}

    wait.until(lambda: f"the others have it all; behind are {behind()}", lambda: not behind(), 60)
    one.start(node)
    kafka.wait_in_sync(one.kafka(leader), topic, 1, seconds=120)
    dumps.wait_same(one, topic, 1)
    assert terms(one, leader) == before, "nobody was silenced by it"
    return leader


@pytest.mark.timeout(300)
def test_a_learner_far_behind_catches_up_from_its_own_datacenter(cluster, topic, figure):
    one = cluster({"fra": 3, "iad": 2, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    near, behind = one.in_dc("iad")
    leader = back_after_missing(one, topic, behind)
    got = value(one, behind, "isobar_catch_up_bytes_total")
    served = {n: value(one, n, "isobar_catch_up_served_bytes_total") for n in one.numbers()}
    figure(f"a learner {MISSED_BYTES / MIB:.0f} MiB behind: {got / MIB:.1f} MiB as ranges, served by {served}")
    assert got > MISSED_BYTES / 2
    # Others may have fallen behind while so much was produced at once.
    others = sum(value(one, n, "isobar_catch_up_bytes_total") for n in one.numbers() if n != behind)
    assert served[near] > MISSED_BYTES / 2 and served[leader] < others + MISSED_BYTES / 2, "the WAN carries them once"
    bulk = value(one, behind, "isobar_link_received_bytes_total", lane="bulk")
    appends = value(one, behind, "isobar_link_received_bytes_total", lane="replication")
    assert bulk > MISSED_BYTES / 2 and appends < MISSED_BYTES / 2, (bulk, appends)


@pytest.mark.timeout(300)
def test_a_voter_far_behind_catches_up_from_its_leader_and_counts_again(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    leader, _ = kafka.leader(one.kafka(1), topic)
    behind = next(n for n in one.in_dc("fra") if n != leader)
    leader = back_after_missing(one, topic, behind)
    assert value(one, behind, "isobar_catch_up_bytes_total") > MISSED_BYTES / 2
    assert value(one, leader, "isobar_catch_up_served_bytes_total") > MISSED_BYTES / 2
    # It is a full voter again: with the other follower gone, its acknowledgement is the majority's.
    other = next(n for n in one.in_dc("fra") if n not in (leader, behind))
    one.kill9(other)
    assert kafka.send(one.bootstrap("fra"), topic, [b"after"], acks="all")
    one.start(other)
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(300)
def test_a_node_killed_while_it_catches_up_goes_on_where_it_was(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    behind = one.in_dc("iad")[0]
    one.kill9(behind)
    produce(one, topic, 2 * MISSED_BYTES)
    one.start(behind, ready=False)

    def has_some():
        return value(one, behind, "isobar_catch_up_bytes_total") > 8 * MIB

    wait.until("the first ranges", has_some, 60, 0.02, errors=(OSError,))
    one.kill9(behind)
    one.start(behind)
    dumps.wait_same(one, topic, 1)
    assert value(one, behind, "isobar_catch_up_bytes_total") < 2 * MISSED_BYTES, "not all of it again"
