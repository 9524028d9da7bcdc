"""What a lost home had acknowledged is compared with the log that went on, and sent again once."""

import json
import time

import pytest

from harness import batch, cli, dumps, kafka, moves, wait, wire

MARK = "isobar.ledger"
RETRIED, NOT_RETRIED = [b"retried-0", b"retried-1", b"retried-2"], [b"given-up-0", b"given-up-1"]


class Sent:
    """Records with keys, headers and times of their own, sent to the home that is cut off: `{value: …}`."""

    def __init__(self):
        self.records = {}

    def opened(self, bootstrap, topic, **config):
        """A producer that has its id, which only `__meta` gives, and has sent one record."""
        producer = kafka.producer(bootstrap, acks="all", linger_ms=2, **config)
        producer.produce(topic, b"first", partition=0)
        assert producer.flush(60) == 0
        return producer

    def send(self, producer, topic, name, count):
        failed = []
        for number in range(count):
            value, key = f"{name}-{number}".encode(), f"key-{number % 7}".encode()
            headers, timestamp = [("n", str(number).encode()), ("n", None)], 1_600_000_000_000 + number * 1000

            def delivered(error, message, value=value, key=key, headers=headers, timestamp=timestamp):
                failed.append(error) if error else self.records.update({value: (key, headers, timestamp, message.offset())})

            producer.produce(topic, value, key, partition=0, headers=headers, timestamp=timestamp, on_delivery=delivered)
        assert producer.flush(60) == 0 and not failed, failed[:1]


def read_whole(bootstrap, topic):
    """`[(offset, value, key, headers, timestamp)]` of all there is."""
    from confluent_kafka import TopicPartition

    end, found = kafka.end_offset(bootstrap, topic), []
    reader = kafka.consumer(bootstrap)
    try:
        reader.assign([TopicPartition(topic, 0, 0)])

        def complete():
            for m in reader.consume(1000, timeout=0.2):
                assert not m.error(), m.error()
                found.append((m.offset(), m.value(), m.key(), m.headers() or [], m.timestamp()[1]))
            return found and found[-1][0] >= end - 1

        wait.until("the whole topic", complete, 60, 0.0)
    finally:
        reader.close()
    return found


@pytest.mark.timeout(300)
def test_what_a_lost_home_acknowledged_is_compared_and_sent_again_once(own_dev, topic, figure):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic, isobar_on_isolation="continue")
    kafka.send(dev.bootstrap(), topic, [f"before-{n}" for n in range(50)])
    sent = Sent()
    idempotent = sent.opened(dev.bootstrap(), topic, enable_idempotence=True)
    plain = sent.opened(dev.bootstrap(), topic, enable_idempotence=False)
    squeezed = sent.opened(dev.bootstrap(), topic, enable_idempotence=True, compression_type="lz4")
    leader, _ = kafka.leader(dev.kafka(1), topic)
    wait.until("everything in iad", lambda: dev.cli(4).partition(topic, 0)["exposure"].get("iad", {}).get("records") == 0, 30)
    for other in ("iad", "sin"):
        dev.cli().link_cut("fra", other)
    sent.send(idempotent, topic, "idempotent", 300)
    sent.send(plain, topic, "plain", 200)
    sent.send(squeezed, topic, "squeezed", 100)
    del idempotent, plain, squeezed
    own = 1 << 40
    with wire.Connection(dev.kafka(leader)) as connection:
        for values, sequence in ((RETRIED, 0), (NOT_RETRIED, len(RETRIED))):
            error, base = wire.produce(connection, topic, 0, batch.encode(values, (own, 0, sequence)))
            assert error == wire.NONE
    fra = dev.nodes("fra")
    wait.until("a leader of __meta", lambda: dev.cli(4).json("cluster", "status")["controller"] not in (None, *fra), 60)
    moves.move(dev.cli(4), "failover", "fra", "--to", "iad", "--topics", topic)
    there = dev.bootstrap("iad")
    kafka.send(there, topic, [f"after-{n}" for n in range(20)])
    with wire.Connection(dev.kafka(kafka.leader(dev.kafka(4), topic)[0])) as connection:
        error, _ = wire.produce(connection, topic, 0, batch.encode(RETRIED, (own, 0, 0)))
        assert error == wire.NONE, "what it sends again is taken: the new home has nothing of it"
    for other in ("iad", "sin"):
        dev.cli().link_heal("fra", other)

    def counted():
        return [m for m in dev.cli(4).json("dc", "history")["ended"] if m["topic"] == topic and m["beyond_records"] is not None and leader in m["ledgers"]]

    (move,) = wait.until("the old home's disks read", counted, 60)
    kept = len(sent.records) + len(RETRIED) + len(NOT_RETRIED)
    assert move["beyond_records"] == kept == 605
    node = leader
    chosen = ("--data-dir", dev.data_dir(node), "--topic", topic, "--partition", 0, "--bootstrap", dev.kafka(4))

    def diff():
        (found,) = json.loads(cli.run("ledger", "diff", *chosen, "--json").stdout)
        return found

    found = diff()
    total = {"records": kept, "in_log": 3, "replayed": 0, "same_bytes": 0, "missing": 402, "unmatched": 200}
    assert found["total"] == total
    by_id = {p["id"]: p for p in found["producers"]}
    assert len(by_id) == 4 and by_id[None]["unmatched"] == 200
    assert (by_id[own]["in_log"], by_id[own]["missing"]) == (3, 2)
    first = move["cut_offset"]
    assert found["absent"]["offsets"] == [[first, first + 599], [first + 603, first + 604]]
    assert found["absent"]["first_timestamp"] == 1_600_000_000_000
    text = cli.run("ledger", "diff", *chosen).stdout
    assert "200 are unmatched" in text and "402" in text

    end = kafka.end_offset(there, topic)
    planned = cli.run("ledger", "replay", *chosen, "--plan").stdout
    assert "602 records" in planned
    refused = cli.run("ledger", "replay", *chosen, check=False)
    assert refused.returncode != 0 and "--yes" in refused.stderr, "nobody has answered the question"
    assert kafka.end_offset(there, topic) == end, "a plan and a question send nothing"

    began = time.monotonic()
    done = json.loads(cli.run("ledger", "replay", *chosen, "--yes", "--json").stdout)
    figure(f"{done['sent']} records of a ledger sent again in {time.monotonic() - began:.2f} s, compared before and after")
    assert (done["sent"], done["absent"], done["first_offset"]) == (602, 0, end)
    assert kafka.end_offset(there, topic) == end + 602
    log = read_whole(there, topic)
    copies = {}
    for offset, value, key, headers, timestamp in log[end:]:
        copies.setdefault(value, []).append((offset, key, headers, timestamp))
    for value, (key, headers, timestamp, offset) in sent.records.items():
        ((_, *copy),) = copies[value]
        mark = [] if value.startswith(b"squeezed") else [copy[1][-1]]
        assert copy == [key, headers + mark, timestamp]
        for name, origin in mark:
            named = origin.decode().split("/")
            assert (name, named[:2], int(named[2]) >> 17, int(named[3])) == (MARK, [topic, "0"], 1, offset)
    values = [value for _, value, *_ in log]
    for value in [*RETRIED, *NOT_RETRIED, *sent.records]:
        assert values.count(value) == 1, value
    again = total | {"replayed": 502, "same_bytes": 100, "missing": 0, "unmatched": 0}
    assert diff()["total"] == again
    for other in (node, *(n for n in move["ledgers"] if n != node)):
        where = ("--data-dir", dev.data_dir(other), *chosen[2:])
        repeated = json.loads(cli.run("ledger", "replay", *where, "--yes", "--json").stdout)
        assert (repeated["sent"], repeated["absent"]) == (0, 0), "its copies are known by their marks, whoever's ledger it is"
    assert kafka.end_offset(there, topic) == end + 602
    (listed,) = json.loads(cli.run("ledger", "list", "--data-dir", dev.data_dir(node), "--json").stdout)
    (replay,) = listed["replays"]
    assert (replay["records"], replay["first_offset"], replay["last_offset"]) == (602, end, end + 601)
    assert replay["ended_ms"] >= replay["began_ms"] > 0 and replay["pending"] is None

    dumps.wait_same(dev, topic, 1)
