"""`__meta` from outside: what was decided is known everywhere and stays (S2, S8, S20)."""

import itertools

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, NewTopic

from harness import batch, kafka, wait, wire


# Kafka's codes that a client may repeat: LEADER_NOT_AVAILABLE, REQUEST_TIMED_OUT, NETWORK_EXCEPTION, NOT_CONTROLLER.
RETRIABLE = {5, 7, 13, 41}


def table(one, node, topic):
    """`{partition: replicas}` as this node alone tells it; None where it knows no such topic."""
    found = wire.metadata(one.kafka(node), [topic])["topics"][topic]
    return {number: p["replicas"] for number, p in found["partitions"].items()} if found["error"] == wire.NONE else None


def outcome(futures, seconds=30):
    """The error that the broker answered with, or None."""
    (future,) = futures.values()
    try:
        future.result(seconds)
    except KafkaException as error:
        return error.args[0]


def make(admin, topic):
    """Asks until there is a majority that decides; what became of the first request may not be known."""
    made = (None, KafkaError.TOPIC_ALREADY_EXISTS)
    code = lambda error: error and error.code()
    wait.until(
        f"{topic} to be made", lambda: code(outcome(admin.create_topics([NewTopic(topic, 3)], operation_timeout=2))) in made, 60
    )


@pytest.mark.timeout(300)
def test_without_its_majority_nothing_is_decided_and_reads_go_on(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    kafka.send(one.bootstrap(), topic, ["before"])
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    before = table(one, 1, topic)
    away = one.in_dc("iad") + one.in_dc("sin")
    one.kill9(*away)
    admin = kafka.admin(one.bootstrap("fra"))
    refused = outcome(admin.create_topics([NewTopic(f"{topic}-refused", 1)], operation_timeout=3))
    assert refused and refused.code() in RETRIABLE, refused
    refused = outcome(admin.delete_topics([topic], operation_timeout=3))
    assert refused and refused.code() in RETRIABLE, refused
    for node in one.in_dc("fra"):
        assert table(one, node, topic) == before
        assert kafka.read(one.kafka(node), topic) == [(0, b"before")]
    one.start(*away)
    make(admin, f"{topic}-again")
    assert table(one, away[0], f"{topic}-again")


def test_clients_do_not_write_meta(dev):
    with wire.Connection(dev.kafka(1)) as connection:
        error, _ = wire.produce(connection, "__meta", 0, batch.encode([b"mine"]))
    assert error == wire.UNKNOWN_TOPIC_OR_PARTITION
    refused = outcome(kafka.admin(dev.bootstrap()).create_topics([NewTopic("__meta", 1)]))
    assert refused and refused.code() not in RETRIABLE, refused


@pytest.mark.timeout(300)
def test_what_was_decided_is_known_though_its_node_dies_at_once(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    for number, what in enumerate(("made", "deleted") * 2):
        name = f"{topic}-{number // 2}"
        # An AdminClient has the controller make topics: whom it asked, who here leads `__meta` too, or does not.
        asked = one.cli().json("cluster", "status")["controller"] if number < 2 else one.numbers()[-1]
        admin = kafka.admin(one.kafka(asked))
        futures = admin.create_topics([NewTopic(name, 3)]) if what == "made" else admin.delete_topics([name])
        assert outcome(futures) is None
        one.kill9(asked)
        alive = [n for n in one.numbers() if n != asked]
        known = lambda name=name, alive=alive: [table(one, n, name) for n in alive]
        as_decided = lambda tables, what=what: tables[0] == tables[-1] and (tables[0] is not None) == (what == "made")
        wait.until(lambda: f"{name} {what}: {known()}", lambda: all(map(as_decided, itertools.combinations(known(), 2))))
        one.start(asked)
        assert as_decided((known()[0], table(one, asked, name)))


def test_every_node_tells_the_same_configs(cluster, topic):
    """Each alone: DescribeConfigs is answered by whoever is asked (S2)."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, retention_ms=123_456, isobar_replication="sync")

    def configs(node):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        admin = kafka.admin(one.kafka(node))
        (future,) = admin.describe_configs([resource]).values()
        return {entry.name: (entry.value, entry.source) for entry in future.result(30).values()}

    wait.until("a topic that every node knows", lambda: all(table(one, n, topic) for n in one.numbers()))
    told = configs(1)
    assert told["retention.ms"][0] == "123456" and told["isobar.replication"][0].startswith("sync")
    assert {n for n in one.numbers() if configs(n) != told} == set()


@pytest.mark.timeout(300)
def test_replicas_stand_where_they_stood_after_a_restart_of_all(cluster, topic):
    one = cluster({"fra": 4, "iad": 2, "sin": 1})
    for number in range(3):
        kafka.create_topic(one.bootstrap(), f"{topic}-{number}", 5, isobar_replicas="fra=3,iad=1,sin=1")
    told = lambda: {(node, number): table(one, node, f"{topic}-{number}") for node in one.numbers() for number in range(3)}
    before = told()
    assert len({str(before[node, 0]) for node in one.numbers()}) == 1
    replicas = [r for number in range(3) for r in before[1, number].values()]
    assert all(len(set(r)) == len(r) == 5 for r in replicas), "no node twice"
    for dc in ("fra", "iad"):
        loads = [sum(node in r for r in replicas) for node in one.in_dc(dc)]
        assert max(loads) - min(loads) <= 1, f"spread evenly over {dc}: {loads}"
    one.kill9(*one.numbers())
    one.start()
    assert told() == before


@pytest.mark.timeout(300)
def test_a_node_that_was_away_tells_nobody_what_it_knew_before(cluster, topic):
    """Its first answer has what was decided meanwhile."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    for away in one.numbers():
        others = [n for n in one.numbers() if n != away]
        one.kill9(away)
        make(kafka.admin(one.kafka(others[0])), f"{topic}-{away}")
        one.start(away, ready=False)
        told = lambda node, away=away: table(one, node, f"{topic}-{away}")
        first = wait.until("an answer", lambda told=told, away=away: [told(away)], errors=(OSError, wire.Closed))
        assert first == [told(others[0])], f"node {away}"
        one.wait_ready()
