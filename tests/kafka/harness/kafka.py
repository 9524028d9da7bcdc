"""Topics, reads and waits through librdkafka, for checks whose subject is not the client."""

import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from . import wait, wire


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})


def create_topic(bootstrap, topic, partitions=1, **config):
    """`config` keys have `_` for `.`: `isobar_replication="sync"`."""
    settings = {key.replace("_", "."): str(value) for key, value in config.items()}
    new = NewTopic(topic, num_partitions=partitions, replication_factor=-1, config=settings)
    client = admin(bootstrap)
    client.create_topics([new], operation_timeout=30)[topic].result(60)
    wait_led(bootstrap, topic, partitions)


def delete_topic(bootstrap, topic):
    client = admin(bootstrap)
    client.delete_topics([topic], operation_timeout=30)[topic].result(60)


def delete_records(bootstrap, topic, before, partition=0):
    """Lets go what is before an offset, and returns the log start that the answer tells."""
    asked, client = TopicPartition(topic, partition, before), admin(bootstrap)
    return client.delete_records([asked], operation_timeout=30)[asked].result(60).low_watermark


def wait_led(bootstrap, topic, partitions, seconds=30):
    """Until every partition has a leader, as each of the bootstrap servers tells it."""

    def led():
        for address in bootstrap.split(","):
            found = wire.metadata(address, [topic])["topics"][topic]
            leaders = [p["leader"] for p in found["partitions"].values()]
            if len(leaders) != partitions or min(leaders) < 0:
                return False
        return True

    wait.until(f"{topic} led everywhere", led, seconds, errors=(OSError, AssertionError))


def leader(address, topic, partition=0):
    """`(node, leader epoch)` as the node at `address` tells it."""
    found = wire.metadata(address, [topic])["topics"][topic]["partitions"][partition]
    return found["leader"], found["epoch"]


def _settings(config):
    """Keyword arguments as librdkafka's keys: `_` for `.`, but in the names of callbacks."""
    return {key if key.endswith("_cb") else key.replace("_", "."): value for key, value in config.items()}


def consumer(bootstrap, group=None, **config):
    base = {
        "bootstrap.servers": bootstrap,
        "log_level": 2,
        "group.id": group or f"unused-{uuid.uuid4()}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    return Consumer(base | _settings(config))


def producer(bootstrap, **config):
    return Producer({"bootstrap.servers": bootstrap, "log_level": 2} | _settings(config))


def send(bootstrap, topic, values, partition=0, **config):
    """Sends all values to one partition; returns their offsets."""
    offsets, errors = [], []

    def delivered(error, message):
        errors.append(error) if error else offsets.append(message.offset())

    sender = producer(bootstrap, **config)
    for value in values:
        while True:
            try:
                sender.produce(topic, value, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                sender.poll(0.1)
    left = sender.flush(120)
    assert not errors and not left, f"{len(errors)} failed, first {errors[:1]}; {left} without an answer"
    return offsets


def end_offset(bootstrap, topic, partition=0):
    # A leader that has no processor for a moment is not named (ADR 0009), and librdkafka takes a partition of which
    # Metadata says leader -1 for unknown for good: `rd_kafka_topic_partition_list_get_leaders` does not put its topic
    # on the list of those to ask for again. Whoever asks anew has an answer.
    def ask():
        reader = consumer(bootstrap)
        try:
            return (reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[1],)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                raise
            return None
        finally:
            reader.close()

    return wait.until(f"the end of {topic}-{partition}", ask, 10)[0]


def read(bootstrap, topic, partition=0, end=None, start=0, rack=None, seconds=120, **config):
    """`(offset, value)` of every record from `start` up to `end`, by default the high watermark."""
    end = end_offset(bootstrap, topic, partition) if end is None else end
    reader = consumer(bootstrap, **({"client_rack": rack} if rack else {}), **config)
    found = []
    try:
        reader.assign([TopicPartition(topic, partition, start)])

        def complete():
            for message in reader.consume(10_000, timeout=0.2):
                if message.error():
                    assert is_passing(message.error()), message.error()
                elif message.offset() < end:
                    found.append((message.offset(), message.value()))
            return end <= start or (found and found[-1][0] >= end - 1)

        wait.until(lambda: f"{end} records of {topic}-{partition}, have {len(found)}", complete, seconds, 0.0)
    finally:
        reader.close()
    return found


# Codes that librdkafka reports and gets over by itself.
_PASSING = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT}


def is_passing(error):
    return error.retriable() or error.code() in _PASSING


def wait_other_leader(addresses, topic, partition, dead, seconds=30):
    """Until every address names the same leader that is not `dead`; returns it."""

    def agreed():
        leaders = {leader(address, topic, partition)[0] for address in addresses}
        return leaders.isdisjoint({dead, -1}) and len(leaders) == 1 and leaders.pop()

    return wait.until(f"a new leader of {topic}-{partition}", agreed, seconds, errors=(OSError, AssertionError))


def wait_in_sync(address, topic, partitions, seconds=60):
    """Until the replicas of every partition are all in its ISR, as the node at `address` tells it."""

    def complete():
        table = wire.metadata(address, [topic])["topics"][topic]["partitions"]
        led = [p for p in table.values() if p["leader"] >= 0 and set(p["isr"]) == set(p["replicas"])]
        return len(led) == partitions

    wait.until(f"every replica of {topic} in sync", complete, seconds, errors=(OSError, AssertionError))
