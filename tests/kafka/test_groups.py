"""Classic consumer groups: who gets what, what is committed, and what a coordinator refuses."""

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition

from harness import kafka, records, wait
from harness.process import Process

PARTITIONS = 4


class Member:
    """A consumer that collects what it is given."""

    def __init__(self, bootstrap, topic, group, **config):
        self.values, self.assigned = [], set()
        defaults = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 500}
        self.consumer = kafka.consumer(bootstrap, group, **(defaults | config))
        self.consumer.subscribe([topic], on_assign=self._assign, on_revoke=self._revoke)

    def _assign(self, _, partitions):
        self.assigned = {p.partition for p in partitions}

    def _revoke(self, *_):
        self.assigned = set()

    def poll(self):
        for message in self.consumer.consume(500, timeout=0.1):
            if not message.error():
                self.values.append(message.value().decode())


def poll_until(what, members, condition, seconds=60):
    def polled():
        for member in members:
            member.poll()
        return condition()

    wait.until(what, polled, seconds, 0)


def test_partitions_are_shared_and_taken_over(broker, topic):
    bootstrap, group = broker.bootstrap(), f"{topic}-group"
    kafka.create_topic(bootstrap, topic, PARTITIONS)
    first, second = Member(bootstrap, topic, group), Member(bootstrap, topic, group)
    members = [first, second]
    poll_until(
        "two members with two partitions each",
        members,
        lambda: sorted(first.assigned | second.assigned) == [0, 1, 2, 3]
        and len(first.assigned) == len(second.assigned) == 2,
    )
    for partition in range(PARTITIONS):
        kafka.send(bootstrap, topic, [records.line(partition * 100 + n) for n in range(100)], partition)
    poll_until("400 records", members, lambda: len(first.values) + len(second.values) >= 400)
    assert sorted(records.number(v) for v in first.values + second.values) == list(range(400))
    first.consumer.commit(asynchronous=False)
    second.consumer.commit(asynchronous=False)
    second.consumer.close()
    poll_until("the first member alone", [first], lambda: first.assigned == {0, 1, 2, 3})
    first.consumer.close()
    assert len(first.values) + len(second.values) == 400


def test_commits_are_kept_and_described(broker, topic):
    bootstrap, group = broker.bootstrap(), f"{topic}-group"
    kafka.create_topic(bootstrap, topic, PARTITIONS)
    reader = kafka.consumer(bootstrap, group)
    asked = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    assert {p.offset for p in reader.committed(asked, timeout=30)} == {-1001}
    note = TopicPartition(topic, 2, 7, metadata="here")
    reader.commit(offsets=[note, TopicPartition(topic, 0, 3)], asynchronous=False)
    committed = {p.partition: (p.offset, p.metadata) for p in reader.committed(asked, timeout=30)}
    assert committed == {0: (3, None), 1: (-1001, None), 2: (7, "here"), 3: (-1001, None)}
    reader.close()

    admin = kafka.admin(bootstrap)
    wanted = ConsumerGroupTopicPartitions(group)
    listed = admin.list_consumer_group_offsets([wanted])[group].result(30)
    assert {p.partition: p.offset for p in listed.topic_partitions} == {0: 3, 2: 7}
    assert group in {g.group_id for g in admin.list_consumer_groups().result(30).valid}
    assert admin.describe_consumer_groups([group])[group].result(30).members == []
    admin.delete_consumer_groups([group])[group].result(30)
    with pytest.raises(KafkaException) as caught:
        admin.delete_consumer_groups([group])[group].result(30)
    assert caught.value.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND


def test_a_member_that_dies_is_replaced(broker, topic, tmp_path):
    bootstrap, group = broker.bootstrap(), f"{topic}-group"
    kafka.create_topic(bootstrap, topic, PARTITIONS)
    member = Member(bootstrap, topic, group)
    settings = ("-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500")
    doomed = Process(["kcat", "-b", bootstrap, *settings, "-G", group, topic], tmp_path / "kcat.log")
    try:
        poll_until("a second member", [member], lambda: len(member.assigned) == 2)
    finally:
        doomed.kill9()
    # Nothing tells the coordinator but the silence.
    poll_until("all partitions with the living", [member], lambda: len(member.assigned) == 4)
    member.consumer.close()


def test_a_static_member_comes_back_without_a_rebalance(broker, topic):
    bootstrap, group = broker.bootstrap(), f"{topic}-group"
    kafka.create_topic(bootstrap, topic, PARTITIONS)
    stay = Member(bootstrap, topic, group, group_instance_id="a", session_timeout_ms=30_000)
    leave = Member(bootstrap, topic, group, group_instance_id="b", session_timeout_ms=30_000)
    poll_until("two members", [stay, leave], lambda: len(stay.assigned) == len(leave.assigned) == 2)
    kept, mine = set(stay.assigned), set(leave.assigned)
    leave.consumer.close()
    again = Member(bootstrap, topic, group, group_instance_id="b", session_timeout_ms=30_000)
    poll_until("the same partitions again", [stay, again], lambda: again.assigned == mine)
    assert stay.assigned == kept
    stay.consumer.close()
    again.consumer.close()
