"""Clients as their users install them, each with its defaults: produce into a topic that is not
there yet, consume with a group, come back to the group's offsets."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import batch, clients, http, kafka, records, wait, wire

COUNT = 500
LEADER_DIES_COUNT, PACE_SECONDS, WAITING_PACE_SECONDS = 2000, 0.002, 0.03


class Kcat:
    def produce(self, bootstrap, topic, values):
        clients.kcat("-b", bootstrap, "-P", "-t", topic, lines=values)

    def consume(self, bootstrap, topic, group, count):
        done = clients.kcat(
            "-b", bootstrap, "-X", "auto.offset.reset=earliest", "-c", count, "-q", "-G", group, topic
        )
        return done.stdout.splitlines()


class Confluent:
    def produce(self, bootstrap, topic, values):
        from confluent_kafka import Producer

        producer, failed = Producer({"bootstrap.servers": bootstrap}), []
        for value in values:
            producer.produce(topic, value, on_delivery=lambda error, _: error and failed.append(error))
        assert (producer.flush(60), failed) == (0, [])

    def consume(self, bootstrap, topic, group, count):
        from confluent_kafka import Consumer, KafkaError

        settings = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
        consumer, values = Consumer(settings), []
        consumer.subscribe([topic])

        def complete():
            message = consumer.poll(1)
            if message is not None and (error := message.error()):
                # A node of another datacenter hears of a topic a little later.
                assert kafka.is_passing(error) or error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART, error
            elif message is not None:
                values.append(message.value().decode())
            return len(values) >= count

        wait.until(lambda: f"{count} records, have {len(values)}", complete, 60, 0)
        consumer.close()
        return values


class KafkaPython:
    def produce(self, bootstrap, topic, values):
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=bootstrap.split(","))
        sent = [producer.send(topic, value.encode()) for value in values]
        for future in sent:
            future.get(60)
        producer.close()

    def consume(self, bootstrap, topic, group, count):
        from kafka import KafkaConsumer

        consumer = KafkaConsumer(
            topic, bootstrap_servers=bootstrap.split(","), group_id=group, auto_offset_reset="earliest"
        )
        values = []

        def complete():
            for messages in consumer.poll(1000, max_records=count - len(values)).values():
                values.extend(message.value.decode() for message in messages)
            return len(values) >= count

        wait.until(lambda: f"{count} records, have {len(values)}", complete, 60, 0)
        consumer.close()
        return values


class Aiokafka:
    def __init__(self, **settings):
        self.settings = settings

    def produce(self, bootstrap, topic, values):
        from aiokafka import AIOKafkaProducer

        async def produce():
            async with AIOKafkaProducer(bootstrap_servers=bootstrap, **self.settings) as producer:
                sent, left = [], iter(values)
                while (value := await asyncio.to_thread(next, left, None)) is not None:
                    sent.append(await producer.send(topic, value.encode()))
                await asyncio.gather(*sent)

        asyncio.run(asyncio.wait_for(produce(), 90))

    def consume(self, bootstrap, topic, group, count):
        from aiokafka import AIOKafkaConsumer

        async def consume():
            consumer = AIOKafkaConsumer(
                topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest"
            )
            async with consumer:
                return [(await consumer.getone()).value.decode() for _ in range(count)]

        return asyncio.run(asyncio.wait_for(consume(), 90))


class KafkaJs:
    def produce(self, bootstrap, topic, values):
        clients.kafkajs("produce", bootstrap, topic, lines=values)

    def consume(self, bootstrap, topic, group, count):
        return clients.kafkajs("consume", bootstrap, topic, group, count).stdout.splitlines()


class FranzGo:
    def produce(self, bootstrap, topic, values):
        clients.franz_go("produce", bootstrap, topic, lines=values)

    def consume(self, bootstrap, topic, group, count):
        return clients.franz_go("consume", bootstrap, topic, group, count).stdout.splitlines()


CLIENTS = {
    "kcat": Kcat(),
    "confluent-kafka": Confluent(),
    "kafka-python": KafkaPython(),
    "aiokafka": Aiokafka(),
    "kafkajs": KafkaJs(),
}
if clients.has_go():
    CLIENTS["franz-go"] = FranzGo()


# What its leader alone acknowledged may be lost with it, and aiokafka asks for no more by default.
ACKS_ALL = CLIENTS | {"aiokafka": Aiokafka(acks="all")}
# Those whose producers are idempotent by default.
IDEMPOTENT = {"kafka-python", "franz-go"}


@pytest.mark.parametrize("name", CLIENTS)
def test_produces_and_consumes_with_a_group(name, broker, topic):
    client, bootstrap = CLIENTS[name], broker.bootstrap("fra")
    topic = f"{topic}-{name}"
    values = [records.line(n) for n in range(COUNT)]
    client.produce(bootstrap, topic, values)
    first = client.consume(bootstrap, topic, f"{topic}-group", COUNT)
    assert sorted(first) == values
    # The group has committed: a second member sees only what came after.
    more = [records.line(n) for n in range(COUNT, COUNT + 50)]
    client.produce(bootstrap, topic, more)
    second = client.consume(bootstrap, topic, f"{topic}-group", len(more))
    assert sorted(second) == more


def paced(values, killed):
    """A value after the other, for as long as it takes to elect a leader, and more. The second half comes slowly until
    the leader is killed, so that it dies under a producer at work, however late the machine starts the reader."""
    for n, value in enumerate(values):
        waits = n > len(values) / 2 and not killed.is_set()
        wait.for_seconds(WAITING_PACE_SECONDS if waits else PACE_SECONDS)
        yield value


def group_whose_coordinator(address, topic, is_wanted):
    """The name of a group; which node is its coordinator goes by the name."""

    def find():
        with wire.Connection(address) as connection:
            for group in (f"{topic}-group-{n}" for n in range(50)):
                error, node = wire.find_coordinator(connection, group)
                if error == wire.NONE and is_wanted(node):
                    return group

    return wait.until("a group of that coordinator", find)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ACKS_ALL)
def test_gets_over_a_leader_that_dies(name, cluster, topic, figure):
    """A producer and a group's member, at work when it is killed, tell their user of no error; nothing is lost.

    The group's coordinator dies with it; but not KafkaJS's, which takes half a minute to ask for another one.
    """
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    client, bootstrap, witness = ACKS_ALL[name], one.bootstrap("fra"), one.kafka(4)
    kafka.wait_in_sync(witness, topic, 1)
    dead, _ = kafka.leader(witness, topic)
    group = group_whose_coordinator(witness, topic, lambda node: (node == dead) == (name != "kafkajs"))
    values = [records.line(n) for n in range(LEADER_DIES_COUNT)]

    def value(metric, **labels):
        return sum(value for _, value in http.samples(one.admin(dead), metric, **labels))

    def half_way():
        read = value("isobar_kafka_fetched_bytes_total", role="leader")
        return read and value("isobar_high_watermark", topic=topic) > LEADER_DIES_COUNT / 8

    killed = threading.Event()
    with ThreadPoolExecutor() as pool:
        producing = pool.submit(client.produce, bootstrap, topic, paced(values, killed))
        consuming = pool.submit(client.consume, bootstrap, topic, group, LEADER_DIES_COUNT)
        wait.until("both at work", half_way)
        one.kill9(dead)
        killed.set()
        assert not producing.done() and not consuming.done(), "it came too late"
        producing.result(90)
        consumed = consuming.result(90)
    log = [value.decode() for _, value in kafka.read(bootstrap, topic)]
    again, consumed_again = len(log) - len(set(log)), len(consumed) - len(set(consumed))
    figure(f"{name} got over a dead leader: {len(log)} records, {again} twice in the log, {consumed_again} read twice")
    assert sorted(set(log)) == values, "what was acknowledged is there, and nothing else"
    assert again == 0 or name not in IDEMPOTENT
    # A group's member may read again what it had not committed, and skips nothing.
    in_order = list(dict.fromkeys(log))
    assert list(dict.fromkeys(consumed)) == in_order[: len(set(consumed))]


@pytest.mark.parametrize("writer", CLIENTS)
def test_everybody_reads_what_one_wrote(writer, broker, topic):
    topic = f"{topic}-{writer}"
    values = [records.line(n) for n in range(50)]
    CLIENTS[writer].produce(broker.bootstrap("fra"), topic, values)

    def read(reader):
        got = CLIENTS[reader].consume(broker.bootstrap("fra"), topic, f"{topic}-{reader}", len(values))
        return reader, sorted(got) == values

    # franz-go compresses with snappy unless told otherwise; KafkaJS reads that only with a plugin.
    readers = [name for name in CLIENTS if (writer, name) != ("franz-go", "kafkajs")]
    with ThreadPoolExecutor() as pool:
        assert dict(pool.map(read, readers)) == dict.fromkeys(readers, True)


def test_a_client_may_ask_for_all_topics(broker, topic):
    """librdkafka's question for them is malformed (its issue 5049), and any Kafka answers it."""
    kafka.create_topic(broker.bootstrap(), topic)
    # It asks whichever node it has a connection to; one in another datacenter hears of a topic a little later.
    kafka.wait_led(",".join(broker.bootstrap(dc) for dc in ("fra", "iad", "sin")), topic, 1)
    admin = kafka.admin(broker.bootstrap())
    assert topic in admin.list_topics(timeout=30).topics
    assert f"topic \"{topic}\"" in clients.kcat("-b", broker.bootstrap(), "-L").stdout


@pytest.mark.parametrize("dc", ["iad", "sin"])
def test_a_client_may_bootstrap_from_any_datacenter(dc, broker, topic):
    topic = f"{topic}-{dc}"
    kafka.create_topic(broker.bootstrap(dc), topic)
    values = [records.line(n) for n in range(100)]
    kafka.send(broker.bootstrap(dc), topic, values)
    assert [v.decode() for _, v in kafka.read(broker.bootstrap(dc), topic, rack=dc)] == values


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("name", ["confluent-kafka", "kcat"])
def test_compressed_batches_pass_through(name, codec, broker, topic):
    """The old librdkafka in kcat compresses only for a broker that advertises Produce from 0."""
    topic = f"{topic}-{name}-{codec}"
    kafka.create_topic(broker.bootstrap(), topic)
    values = [records.line(n % 10) for n in range(200)]
    if name == "kcat":
        clients.kcat("-b", broker.bootstrap(), "-P", "-t", topic, "-z", codec, lines=values)
    else:
        kafka.send(broker.bootstrap(), topic, values, compression_codec=codec, linger_ms=50)
    assert [v.decode() for _, v in kafka.read(broker.bootstrap(), topic)] == values
    leader, _ = kafka.leader(broker.kafka(1), topic)
    address = wire.metadata(broker.kafka(1))["brokers"][leader]["address"]
    with wire.Connection(address) as connection:
        batches = batch.split(wire.fetch(connection, topic, 0, 0)["records"])
    expected = ["none", "gzip", "snappy", "lz4", "zstd"].index(codec)
    assert {data[22] & 7 for _, _, data in batches} == {expected}
