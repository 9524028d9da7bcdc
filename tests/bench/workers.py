"""Clients of librdkafka, each a process of its own: Python threads would share one lock."""

import multiprocessing
import os
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from harness import wait

CONTEXT = multiprocessing.get_context("spawn")
READY_SECONDS, RUN_SECONDS = 60, 300
RECORD_BYTES = 1024


class Gate:
    """The clients say when they are ready; it opens when all of them are."""

    def __init__(self, clients):
        self.ready, self.ended = CONTEXT.Array("i", clients), CONTEXT.Array("d", clients)
        self.opened = CONTEXT.Event()


def run(work, clients, *args):
    """`work(gate, me, clients, *args)` in so many processes; seconds from the gate's opening to the last end."""
    gate = Gate(clients)
    processes = [CONTEXT.Process(target=work, args=(gate, me, clients, *args), daemon=True) for me in range(clients)]
    for process in processes:
        process.start()

    def while_alive(condition):
        assert all(process.exitcode in (None, 0) for process in processes), "a client failed"
        return condition

    try:
        wait.until("all clients ready", lambda: while_alive(all(n == 1 for n in gate.ready)), READY_SECONDS, 0.01)
        began = time.monotonic()
        gate.opened.set()
        wait.until("all clients done", lambda: while_alive(all(gate.ended)), RUN_SECONDS, 0.01)
        return max(gate.ended) - began
    finally:
        for process in processes:
            process.kill()
            process.join()


def produce(gate, me, clients, bootstrap, topic, partitions, acks, records):
    """Its share of the records, round robin over all partitions, in batches of up to 1 MiB."""
    failed, record = [], os.urandom(RECORD_BYTES // 2).hex().encode()
    producer = Producer(
        {"bootstrap.servers": bootstrap, "acks": acks, "linger.ms": 5, "batch.size": 1 << 20,
         "queue.buffering.max.messages": 200_000, "log_level": 2}
    )  # fmt: skip
    producer.list_topics(topic, READY_SECONDS)
    delivered = lambda error, _: error and failed.append(error)
    gate.ready[me] = 1
    gate.opened.wait(READY_SECONDS)
    for n in range(records // clients):
        while True:
            try:
                producer.produce(topic, record, partition=n % partitions, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        if n % 1000 == 0:
            producer.poll(0)
    assert (producer.flush(RUN_SECONDS), failed[:1]) == (0, [])
    gate.ended[me] = time.monotonic()


def consume(gate, me, clients, bootstrap, topic, records):
    """All of them by one consumer that takes every partition, without a group."""
    consumer = _consumer(bootstrap, "unused")
    partitions = consumer.list_topics(topic, READY_SECONDS).topics[topic].partitions
    gate.ready[me] = 1
    gate.opened.wait(READY_SECONDS)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    _take(consumer, records)
    gate.ended[me] = time.monotonic()


def consume_in_group(gate, me, clients, bootstrap, topic, records):
    """One partition a member. It begins when every member has its own: joining is not measured."""
    consumer = _consumer(bootstrap, f"bench-{topic}")

    def assigned(consumer, partitions):
        consumer.assign(partitions)
        consumer.pause(partitions)
        gate.ready[me] = len(partitions)

    def revoked(consumer, _):
        gate.ready[me] = 0
        consumer.unassign()

    consumer.subscribe([topic], on_assign=assigned, on_revoke=revoked)
    wait.until("the gate", lambda: consumer.poll(0.01) or gate.opened.is_set(), READY_SECONDS, 0)
    consumer.resume(consumer.assignment())
    _take(consumer, records // clients)
    gate.ended[me] = time.monotonic()
    # A member that leaves would make the others wait for a new generation.
    wait.until("the others", lambda: consumer.poll(0.01) or all(gate.ended), RUN_SECONDS, 0)


def _consumer(bootstrap, group):
    return Consumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 2,
         "auto.offset.reset": "earliest"}
    )  # fmt: skip


def _take(consumer, records):
    seen = 0

    def complete():
        nonlocal seen
        seen += sum(not message.error() for message in consumer.consume(50_000, timeout=0.2))
        return seen >= records

    wait.until(lambda: f"{records} records, have {seen}", complete, RUN_SECONDS, 0)
