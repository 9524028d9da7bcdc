"""The clients' own suites against a cluster of three datacenters (S4). Each leaves out what is listed here, and says why."""

import re

import pytest

from conftest import LONG
from harness import suites

SECONDS = 900
# Kafka's version whose features the suites may ask for.
KAFKA_PYTHON_VERSION, LIBRDKAFKA_VERSION = "4.2", "3.9.0"
FRANZ_GO_RECORDS = 500_000 if LONG else 20_000

TRANSACTIONS = "transactions are not built"
ACLS = "ACLs are not built"
COMPACTION = "compaction is not built"
PLACEMENT = "which node has which replica, and who leads, follows from the topology: nobody sets it by hand"
OLD_RECORDS = "records in the formats before Kafka 0.11 are not served"
AS_PRODUCED = "batches are stored as they were produced: compression.type is `producer`"

FRANZ_GO = {
    "TestTxnEtl": TRANSACTIONS,
}

KAFKA_PYTHON = {
    "test_admin_integration.py::test_alter_partition_reassignments": PLACEMENT,
    "test_admin_integration.py::test_alter_replica_log_dirs": PLACEMENT,
    "test_admin_integration.py::test_create_describe_delete_acls": ACLS,
    "test_admin_integration.py::test_create_partitions": PLACEMENT,
    "test_admin_integration.py::test_describe_log_dirs": "DescribeLogDirs is not built",
    "test_admin_integration.py::test_describe_metadata_quorum": "`__meta` is no KRaft quorum",
    "test_admin_integration.py::test_elect_leaders": PLACEMENT,
    "test_admin_integration.py::test_list_config_resources": "ListConfigResources is not built",
    "test_admin_integration.py::test_list_partition_reassignments": PLACEMENT,
    "test_consumer_integration.py::test_group": "its sessions of 3 s are too short for Kafka's own default, too: 6 s at least",
    "test_producer_integration.py::test_transactional_producer_messages": TRANSACTIONS,
    "test_producer_integration.py::test_transactional_producer_offsets": TRANSACTIONS,
}

LIBRDKAFKA = {
    "0011": COMPACTION,
    "0052": OLD_RECORDS,
    "0077": COMPACTION,
    "0092": OLD_RECORDS,
    "0098": TRANSACTIONS,
    "0103": TRANSACTIONS,
    "0109": ACLS,
    "0115": ACLS,
    "0119": ACLS,
    "0129": TRANSACTIONS,
}

# They break the process's own connections: one after the other, and apart from the rest, as their `make quick` has it.
LIBRDKAFKA_BREAKING = ("0049", "0068", "0075", "0076", "0086", "0088", "0094")

# Parts of 0081, the admin client.
LIBRDKAFKA_ADMIN = (
    "do_test_AlterConsumerGroupOffsets",
    "do_test_DeleteGroups",
    "do_test_DeleteTopics",
    "do_test_DescribeCluster",
    "do_test_DescribeConfigs",
    "do_test_DescribeConsumerGroups",
    "do_test_DescribeTopics",
    "do_test_ListConsumerGroupOffsets",
    "do_test_ListConsumerGroups",
    "do_test_ListOffsets",
    "do_test_unclean_destroy",
)
LIBRDKAFKA_ADMIN_LEFT_OUT = {
    "do_test_AlterConfigs": AS_PRODUCED,
    "do_test_CreateTopics": AS_PRODUCED,
    "do_test_CreatePartitions": PLACEMENT,
    "do_test_DeleteConsumerGroupOffsets": "an offset committed without a leader epoch gets one: a failover clamps it by that",
    "do_test_DeleteRecords": "waits no time at all; log start moves once a majority has said so",
    "do_test_IncrementalAlterConfigs": AS_PRODUCED,
    "do_test_CreateAcls": ACLS,
    "do_test_DeleteAcls": ACLS,
    "do_test_DescribeAcls": ACLS,
    "do_test_UserScramCredentials": "SASL is not built",
}


@pytest.fixture
def three_datacenters(cluster):
    # librdkafka's suite expects four partitions where it names no number.
    return cluster({"fra": 3, "iad": 1, "sin": 1}, policy=["partitions = 4"])


@pytest.fixture
def one_leader(cluster):
    """Three datacenters of a node each: kafka-python's suite expects one poll to bring what all partitions have."""
    return cluster({"fra": 1, "iad": 1, "sin": 1})


@pytest.fixture
def passed(figure):
    """`passed(name, report, least, left_out)`: nothing failed, and it was the suite that ran."""

    def check(name, report, least, left_out=()):
        counts = {outcome: report.of(outcome) for outcome in ("passed", "failed", "skipped")}
        figure(f"{name}: {', '.join(f'{len(tests)} {outcome}' for outcome, tests in counts.items())}, {len(left_out)} left out by us")
        assert counts["failed"] == [], report.tail()
        assert len(counts["passed"]) >= least, report.tail()

    return check


@pytest.mark.timeout(SECONDS)
def test_franz_go(three_datacenters, tmp_path, passed):
    report = suites.franz_go(three_datacenters.bootstrap(), FRANZ_GO, FRANZ_GO_RECORDS, SECONDS - 60, tmp_path / "suite.log")
    passed("franz-go's suite", report, 140, FRANZ_GO)


@pytest.mark.long
@pytest.mark.timeout(SECONDS)
def test_kafka_python(one_leader, tmp_path, passed):
    report = suites.kafka_python(one_leader.kafka(1), KAFKA_PYTHON, KAFKA_PYTHON_VERSION, SECONDS - 60, tmp_path / "suite.log")
    passed("kafka-python's suite", report, 39, KAFKA_PYTHON)


@pytest.mark.long
@pytest.mark.timeout(SECONDS)
def test_librdkafka(three_datacenters, tmp_path, passed):
    def run(log, **which):
        return suites.librdkafka(three_datacenters.bootstrap(), LIBRDKAFKA_VERSION, SECONDS - 60, tmp_path / log, **which)

    at_once = run("suite.log", skip=(*LIBRDKAFKA, *LIBRDKAFKA_BREAKING, "0081"), at_once=4)
    passed("librdkafka's suite", at_once, 65, LIBRDKAFKA)
    passed("librdkafka's suite, with connections that break", run("breaking.log", tests=LIBRDKAFKA_BREAKING), len(LIBRDKAFKA_BREAKING))
    for part in LIBRDKAFKA_ADMIN:
        report = run(f"{part}.log", tests=("0081",), subtest=part)
        assert re.search(rf"\[ {part}", report.output), f"{part} is not in it:\n{report.tail()}"
        passed(f"librdkafka's suite, {part}", report, 1, LIBRDKAFKA_ADMIN_LEFT_OUT)
