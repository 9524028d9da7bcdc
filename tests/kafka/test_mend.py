"""Damaged disks take again from the others what they have lost, and say so."""

import os
import shutil

import pytest
from confluent_kafka import KafkaException, TopicPartition

from harness import dumps, http, kafka, wait

SEGMENT_BYTES = 1 << 20


def value(one, node, name, **labels):
    return sum(value for _, value in http.samples(one.admin(node), name, **labels))


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def filled(cluster, topic, per_dc):
    one = cluster(per_dc)
    kafka.create_topic(one.bootstrap(), topic, segment_bytes=SEGMENT_BYTES)
    kafka.send(one.bootstrap("fra"), topic, (os.urandom(16 << 10) for _ in range(512)))
    kafka.wait_in_sync(one.kafka(1), topic, 1)
    wait.until("the first checkpoint", lambda: one.dump(1, topic, 0).strip())
    dumps.wait_same(one, topic, 1)
    return one


def wait_mended(one, node, topic):
    wait.until(
        lambda: f"node {node} mends its log:\n{one.processes[node].tail(15)}",
        lambda: value(one, node, "isobar_log_mended_total") >= 1 and value(one, node, "isobar_log_damaged") == 0,
        60,
        errors=(OSError,),
    )
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(300)
def test_a_flipped_bit_in_a_closed_segment_is_found_and_the_segment_made_anew(cluster, topic):
    one = filled(cluster, topic, {"fra": 3, "iad": 1, "sin": 1})
    follower = next(n for n in one.in_dc("fra") if n != kafka.leader(one.kafka(1), topic)[0])
    for node in (one.in_dc("iad")[0], follower):
        one.shut_down(node)
        rotten = dumps.segments(one, node, topic)[2]
        whole = rotten.read_bytes()
        flip(rotten, len(whole) // 2)
        one.start(node)
        wait_mended(one, node, topic)
        assert rotten.read_bytes() == whole
        assert str(rotten) in one.processes[node].tail(1000), "the log names the file"
        assert value(one, node, "isobar_catch_up_bytes_total") < 2 * SEGMENT_BYTES, "only what was damaged"


@pytest.mark.timeout(300)
def test_a_log_that_cannot_be_read_at_the_start_is_closed_until_it_is_whole_again(cluster, topic):
    one = filled(cluster, topic, {"fra": 3, "iad": 2, "sin": 1})
    node = one.in_dc("iad")[0]
    one.kill9(node)
    files = dumps.segments(one, node, topic)
    flip(files[1], files[1].stat().st_size // 3)
    files[1].with_suffix(".index").unlink()
    files[4].unlink()
    one.start(node)
    wait_mended(one, node, topic)
    kafka.send(one.bootstrap("fra"), topic, [b"after"])
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(300)
def test_a_voter_that_lost_the_end_of_its_log_does_not_vote_before_it_has_it_again(cluster, topic):
    """Its vote is what the group lacks, and it gives none: else what it had acknowledged could be lost."""
    one = filled(cluster, topic, {"fra": 3, "iad": 1, "sin": 1})
    leader, _ = kafka.leader(one.kafka(1), topic)
    damaged, other = [n for n in one.in_dc("fra") if n != leader]
    one.kill9(other)
    acknowledged = kafka.send(one.bootstrap("fra"), topic, [b"on two disks of three"] * 100, acks="all")
    # Orderly, so that the durable mark is at the end of the log.
    one.shut_down(damaged)
    one.kill9(leader)
    last = dumps.segments(one, damaged, topic)[-1]
    size = last.stat().st_size
    os.truncate(last, size // 2)
    one.start(damaged, other, ready=False)

    def is_damaged():
        return value(one, damaged, "isobar_log_damaged") == 1

    wait.until("the damaged replica stays closed", is_damaged, 60, errors=(OSError,))
    # Without its leader nobody can say what it promised, and these two are a majority of voters.
    terms = lambda: http.samples(one.admin(other), "isobar_raft_role", topic=topic, role="leader")
    wait.for_seconds(8, lambda: not terms() or pytest.fail("elected without the damaged one's promise"))
    assert is_damaged()
    one.start(leader)
    wait_mended(one, damaged, topic)
    assert last.stat().st_size >= size
    assert kafka.end_offset(one.bootstrap("fra"), topic) >= acknowledged[-1] + 1
    assert kafka.send(one.bootstrap("fra"), topic, [b"after"], acks="all")
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(300)
def test_damage_in_the_segment_that_is_written_is_mended_while_the_node_runs(cluster, topic):
    """Nobody looks for it there; a reader meets it, and has its records all the same."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    # More than a node has in memory of it.
    values = [os.urandom(16 << 10) for _ in range(640)]
    kafka.send(one.bootstrap("fra"), topic, values)
    dumps.wait_same(one, topic, 1)
    learner, (leader, _) = one.in_dc("iad")[0], kafka.leader(one.kafka(1), topic)
    for node, dc in ((learner, "iad"), (leader, "fra")):
        (only,) = dumps.segments(one, node, topic)
        size = only.stat().st_size
        flip(only, size // 4)
        assert [v for _, v in kafka.read(one.bootstrap(dc), topic, rack=dc)] == values
        wait_mended(one, node, topic)
        assert "a read met damage in the segment that is written" in one.processes[node].tail(1000)
        assert only.stat().st_size >= size
    kafka.send(one.bootstrap("fra"), topic, [b"after"])
    dumps.wait_same(one, topic, 1)


@pytest.mark.timeout(300)
def test_a_damaged_voter_comes_back_where_all_voters_are_to_have_every_record(cluster, topic):
    """Without it a new leader does not know its watermark; it says all the same what the other has promised."""
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic, min_insync_replicas=3)
    values = [os.urandom(1 << 10) for _ in range(200)]
    kafka.send(one.bootstrap("fra"), topic, values, acks="all")
    leader, _ = kafka.leader(one.kafka(1), topic)
    damaged = next(n for n in one.in_dc("fra") if n != leader)
    # Orderly, so that the durable mark is at the end of the log.
    one.shut_down(damaged)
    last = dumps.segments(one, damaged, topic)[-1]
    os.truncate(last, last.stat().st_size // 2)
    one.kill9(leader)
    one.start(damaged, leader, ready=False)
    wait_mended(one, damaged, topic)
    assert [v for _, v in kafka.read(one.bootstrap("fra"), topic)] == values
    kafka.send(one.bootstrap("fra"), topic, [b"after"], acks="all")
    dumps.wait_same(one, topic, 1)


OFFSETS = "__consumer_offsets"


@pytest.mark.timeout(300)
def test_a_mended_log_of_group_offsets_has_its_coordinator_where_it_leads(cluster, topic):
    one = cluster({"fra": 3, "iad": 1, "sin": 1})
    kafka.create_topic(one.bootstrap(), topic)
    kafka.send(one.bootstrap("fra"), topic, [b"v"] * 10)
    groups = [f"{topic}-{n}" for n in range(24)]

    def commit(group):
        consumer = kafka.consumer(one.bootstrap("fra"), group)
        consumer.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
        consumer.close()
        return True

    def all_commit():
        for group in groups:
            wait.until(f"{group} commits", lambda: commit(group), 30, errors=KafkaException)

    all_commit()
    partitions = len(kafka.admin(one.bootstrap()).list_topics(OFFSETS, timeout=10).topics[OFFSETS].partitions)
    kafka.wait_in_sync(one.kafka(1), OFFSETS, partitions)
    damaged, _, leads = one.in_dc("fra")
    one.shut_down(damaged)
    written = [log for *_, log in dumps.logs(one, damaged, OFFSETS) if log.stat().st_size > 200]
    for log in written:
        os.truncate(log, log.stat().st_size // 2)
    one.start(damaged)
    mended = lambda: value(one, damaged, "isobar_log_mended_total") >= len(written)
    wait.until(f"all {len(written)} are mended", mended, 60, errors=(OSError,))
    kafka.wait_in_sync(one.kafka(1), OFFSETS, partitions)
    one.kill9(leads)
    role = lambda: http.samples(one.admin(damaged), "isobar_raft_role", topic=OFFSETS, role="leader")
    wait.until("it leads some", role, 30)
    all_commit()


@pytest.mark.timeout(300)
def test_a_damaged_log_whose_home_moved_meanwhile_is_made_whole_again(cluster, topic):
    one = filled(cluster, topic, {"fra": 3, "iad": 3, "sin": 2})
    inside, at_its_end = one.in_dc("sin")
    one.kill9(inside)
    one.shut_down(at_its_end)
    files = dumps.segments(one, inside, topic)
    flip(files[1], files[1].stat().st_size // 3)
    files[1].with_suffix(".index").unlink()
    last = dumps.segments(one, at_its_end, topic)[-1]
    os.truncate(last, last.stat().st_size // 2)
    one.cli().run("dc", "switchover", "fra", "--to", "iad", "--topics", topic, "--yes")
    one.start(inside)
    one.start(at_its_end)
    kafka.send(one.bootstrap("iad"), topic, [b"after"])
    wait.until(
        lambda: f"it is mended:\n{one.processes[inside].tail(15)}",
        lambda: value(one, inside, "isobar_log_mended_total") >= 1 and value(one, inside, "isobar_log_damaged") == 0,
        60,
        errors=(OSError,),
    )
    # What may have been beyond the cut there is nowhere else: that is for people.
    remedy = "Copy the node's data directory"
    wait.until("it says what to do", lambda: remedy in one.processes[at_its_end].tail(200), 30)
    assert str(last) in one.processes[at_its_end].tail(200)
    assert value(one, at_its_end, "isobar_log_damaged") == 1
    one.kill9(at_its_end)
    shutil.rmtree(one.data_dir(at_its_end))
    one.start(at_its_end)
    dumps.wait_same(one, topic, 1)
