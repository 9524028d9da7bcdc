"""The ISR (S34): what lags within the bound, as Metadata, the command line and the metric tell it alike."""

import pytest

from harness import batch, http, kafka, wait, wire


def told(one, leader, topic):
    """The ISR of partition 0 as each of the three has it; of the metric only its size is known."""
    partition = wire.metadata(one.kafka(leader), [topic])["topics"][topic]["partitions"][0]
    by_cli = one.cli(leader).partition(topic, 0)["isr"]
    ((_, size),) = http.samples(one.admin(leader), "isobar_in_sync_replicas", topic=topic, partition=0)
    return sorted(partition["isr"]), sorted(by_cli), size


@pytest.mark.timeout(300)
@pytest.mark.parametrize("dc", ["fra", "iad"])
def test_who_does_not_answer_leaves_the_isr_and_comes_back(dc, cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    leader, _ = kafka.leader(one.kafka(1), topic)
    frozen = next(n for n in reversed(one.in_dc(dc)) if n != leader)
    everybody, rest = one.numbers(), [n for n in one.numbers() if n != frozen]
    assert told(one, leader, topic) == (everybody, everybody, len(everybody))
    one.stop(frozen)
    with wire.Connection(one.kafka(leader)) as connection:
        assert wire.produce(connection, topic, 0, batch.encode([b"it lacks this"]))[0] == wire.NONE
        agreed = lambda nodes: lambda: told(one, leader, topic) == (nodes, nodes, len(nodes))
        wait.until(lambda: f"an ISR of {rest}, is {told(one, leader, topic)}", agreed(rest), 60)
        assert wire.produce(connection, topic, 0, batch.encode([b"and this"]))[0] == wire.NONE
        one.cont(frozen)
        wait.until(lambda: f"an ISR of all, is {told(one, leader, topic)}", agreed(everybody), 60)
    wait.until("both records there", lambda: one.dump(frozen, topic, 0).count("\n") == 2)
