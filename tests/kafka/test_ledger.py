"""What an old home had beyond the cut: compared with the new log, and sent again, once."""

import hashlib
import json
import subprocess
import time
from pathlib import Path

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME

from harness import batch, cli, dumps, kafka, moves, wait, wire
from harness.process import BIN, environment

MARK = "isobar.ledger"
TIME_MS = 1_700_000_000_000


def produce(connection, topic, *batches):
    """The base offset of the first."""
    offsets = []
    for data in batches:
        error, offset = wire.produce(connection, topic, 0, data, timeout_ms=3000)
        assert error == wire.NONE
        offsets.append(offset)
    return offsets


def records(bootstrap, topic):
    """`(offset, key, value, timestamp, headers)` of every record that is there."""
    reader, end = kafka.consumer(bootstrap), kafka.end_offset(bootstrap, topic)
    found = []
    try:
        reader.assign([kafka.TopicPartition(topic, 0, 0)])

        def complete():
            for message in reader.consume(1000, timeout=0.2):
                if not message.error():
                    kind, at = message.timestamp()
                    assert kind == TIMESTAMP_CREATE_TIME
                    headers = message.headers() or []
                    found.append((message.offset(), message.key(), message.value(), at, headers))
            return found and found[-1][0] == end - 1

        wait.until("every record", complete, 60)
    finally:
        reader.close()
    return found


def content(record):
    """A record without its offset and its mark."""
    return (*record[1:4], [header for header in record[4] if header[0] != MARK])


@pytest.mark.timeout(300)
def test_what_a_lost_home_had_alone_is_compared_and_replayed_once(own_dev, topic, tmp_path, figure):
    dev = own_dev()
    kafka.create_topic(dev.bootstrap(), topic)
    sender = kafka.producer(dev.bootstrap(), linger_ms=0)
    zipper = kafka.producer(dev.bootstrap(), linger_ms=50, compression_type="gzip")
    for one in (sender, zipper):
        one.produce(topic, b"before", partition=0)
        assert one.flush(30) == 0
    leader, _ = kafka.leader(dev.kafka(1), topic)
    ours = {}
    with wire.Connection(dev.kafka(leader)) as connection:
        error, producer, epoch = wire.init_producer_id(connection)
        assert error == wire.NONE
        wait.until(
            "everything in iad",
            lambda: dev.cli(4).partition(topic, 0)["exposure"].get("iad", {}).get("records") == 0,
            30,
        )
        dev.cli().link_cut("fra", "iad")
        dev.cli().link_cut("fra", "sin")
        retried = batch.encode([b"retried-0", b"retried-1"], (producer, epoch, 0))
        twin = batch.encode([b"twin"], timestamp=TIME_MS)
        (there,) = produce(connection, topic, retried)
        (alone,) = produce(connection, topic, batch.encode([b"alone-0", b"alone-1"], (producer, epoch, 2), TIME_MS))
        (alike,) = produce(connection, topic, twin)

        ours |= {alone + n: (None, f"alone-{n}".encode(), TIME_MS, []) for n in range(2)}

        def send(by, value, key, timestamp, headers):
            def delivered(error, message):
                assert error is None
                ours[message.offset()] = (key, value, timestamp, headers)

            by.produce(topic, value, key, 0, on_delivery=delivered, timestamp=timestamp, headers=headers)

        for n in range(10):
            headers = [("n", str(n).encode()), ("n", b"\0\xff"), ("none", None)]
            key = None if n % 2 else f"key-{n}".encode()
            send(sender, f"keyed-{n}".encode(), key, TIME_MS + n, headers)
            sender.flush(0.2)
        for n in range(3):
            send(zipper, f"zipped-{n}".encode() * 50, None, TIME_MS + n, [])
        assert sender.flush(5) == 0 and zipper.flush(5) == 0
    expected = sorted(ours)
    assert len(expected) == 15
    wait.until(
        "a leader of __meta elsewhere",
        lambda: dev.cli(4).json("cluster", "status")["controller"] not in (None, *dev.nodes("fra")),
        60,
    )
    moves.move(dev.cli(4), "failover", "fra", "--to", "iad", "--topics", topic)
    moves.wait_led_in([dev.kafka(4)], topic, dev.nodes("iad"))
    iad, _ = kafka.leader(dev.kafka(4), topic)
    with wire.Connection(dev.kafka(iad)) as connection:
        produce(connection, topic, retried, twin, batch.encode([b"after"]))
    dev.cli().link_heal("fra", "iad")
    dev.cli().link_heal("fra", "sin")
    (move,) = moves.wait_counted(dev.cli(4), topic)
    node = move["longest"][0]
    end = kafka.end_offset(dev.bootstrap("iad"), topic)

    def where(number):
        return "--data-dir", dev.data_dir(number), "--topic", topic, "--partition", 0

    def diff(number):
        return json.loads(cli.run("ledger", "diff", *where(number), "--json").stdout)

    def offsets(part):
        return [offset for first, last in part["offsets"] for offset in range(first, last + 1)]

    def up_to_date():
        found = diff(node)
        return found if found["log_end_offset"] >= end else None

    # The diff is exact.
    found = wait.until("the old home has the new log", up_to_date, 60)
    assert offsets(found["there"]) == [there, there + 1]
    assert offsets(found["alike"]) == [alike]
    assert offsets(found["missing"]) == expected
    assert found["replayed"]["records"] == 0 and found["compressed_records"] == 3
    assert (found["missing"]["first_timestamp"], found["records"]) == (TIME_MS, len(expected) + 3)
    producers = {(p["id"], p["epoch"]): (p["there"], p["alike"], p["missing"]) for p in found["producers"]}
    assert producers == {(producer, epoch): (2, 0, 2), (None, None): (0, 1, 13)}
    raw = tmp_path / "raw"
    cli.run("ledger", "export", *where(node), "--out", raw)
    lost = [data for first, _, data in batch.split(raw.read_bytes()) if first in expected]
    assert found["missing_sha256"] == hashlib.sha256(b"".join(lost)).hexdigest()
    assert (found["missing_batches"], found["missing_bytes"]) == (len(lost), sum(map(len, lost)))
    shown = cli.run("ledger", "diff", *where(node)).stdout
    assert "missing: not in the log" in shown and found["missing_sha256"] in shown

    # A plan changes nothing, and without a word nothing is sent.
    admin = dev.cli(4)
    planned = admin.json("ledger", "replay", *where(node), "--plan")
    assert (planned["to_send"], planned["sent"], planned["replayed"]) == (15, 0, None)
    refused = admin.run("ledger", "replay", *where(node), check=False)
    assert refused.returncode != 0 and "--yes" in refused.stderr
    assert kafka.end_offset(dev.bootstrap("iad"), topic) == end

    # A replay that is killed where it has begun, and another one.
    command = ["ledger", "replay", *where(node), "--yes", "--admin", dev.admin(4)]
    killed = subprocess.Popen([BIN, *map(str, command)], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    suffix = json.loads(cli.run("ledger", "list", "--data-dir", dev.data_dir(node), "--json").stdout)
    state = next(Path(s["dir"]) for s in suffix if s["topic"] == topic) / "replay.toml"
    wait.until("a replay has begun", lambda: state.exists() or killed.poll() is not None, 60, 0.001)
    killed.kill()
    killed.wait()
    began = time.monotonic()
    again = admin.json("ledger", "replay", *where(node), "--yes")
    figure(f"killed, a replay had {15 - again['sent']} of 15 records in the log; the rest took {time.monotonic() - began:.2f} s")
    assert again["replayed"]["records"] == 15 and again["replayed"]["is_done"]

    # Everything is back, once, as it was.
    new = [r for r in records(dev.bootstrap("iad"), topic) if r[0] >= end]
    assert [content(r) for r in new] == [ours[offset] for offset in expected]
    topic_id, leader_epoch = found["topic_id"], batch_epoch(lost[0])
    for old, record in zip(expected, new, strict=True):
        marks = [value for name, value in record[4] if name == MARK]
        is_zipped = record[2].startswith(b"zipped")
        assert marks == ([] if is_zipped else [f"{topic_id}/0/{leader_epoch}/{old}".encode()])
    assert (again["replayed"]["first_offset"], again["replayed"]["last_offset"]) == (new[0][0], new[-1][0])

    # A second time there is nothing to send, from here or from another replica's ledger.
    end = kafka.end_offset(dev.bootstrap("iad"), topic)
    for number in move["longest"]:
        report = admin.json("ledger", "replay", *where(number), "--yes")
        assert (report["to_send"], report["sent"]) == (0, 0)
        assert report["diff"]["replayed"]["records"] == 12 and report["diff"]["missing"]["records"] == 0
    assert kafka.end_offset(dev.bootstrap("iad"), topic) == end == new[-1][0] + 1
    listed = json.loads(cli.run("ledger", "list", "--data-dir", dev.data_dir(node), "--json").stdout)
    (of_topic,) = [s for s in listed if s["topic"] == topic]
    assert of_topic["replayed"]["records"] == 15
    assert "15 to " in cli.run("ledger", "list", "--data-dir", dev.data_dir(node)).stdout
    dumps.wait_same(dev, topic, 1)


def batch_epoch(data):
    """Its leader epoch, bytes 12 to 16."""
    return int.from_bytes(data[12:16], "big")
