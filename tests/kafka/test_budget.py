"""The exposure budget of async topics: what no other DC has stays within it while every link is dead, or the
breach is shown. Partition 0 of each topic has librdkafka's load; partition 1 is asked by hand."""

import contextlib
import json
import threading
import time

import pytest

from harness import batch, dumps, http, kafka, moves, wait, wire
from harness.dev import Dev
from harness.load import Load, check, read_back
from test_admin import alter

MAX_LAG = 3.0
# A round trip and a scheduler that is late.
SLACK = 1.0


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """One for this file, which leaves its links whole after each check."""
    own = Dev(tmp_path_factory.mktemp("budget"))
    try:
        yield own.start()
        own.process.assert_alive()
        assert own.process.trouble() == []
    finally:
        own.close()


@contextlib.contextmanager
def cut_off(dev, *dcs):
    """The links from home; yields when they are cut."""
    try:
        for dc in dcs:
            dev.cli().link_cut("fra", dc)
        yield time.monotonic()
    finally:
        for dc in dcs:
            dev.cli().link_heal("fra", dc)


def create(dev, topic, **config):
    """Goes on without a lease, so that nothing but the budget stops it; returns its leaders."""
    kafka.create_topic(dev.bootstrap(), topic, 2, isobar_on_isolation="continue", **config)
    return [kafka.leader(dev.kafka(1), topic, partition)[0] for partition in (0, 1)]


def told(dev, leader, topic, name, partition=0):
    found = [value for _, value in http.samples(dev.admin(leader), name, topic=topic, partition=partition)]
    assert len(found) == 1, f"{name} of {topic}-{partition}: {found}"
    return found[0]


def at_stake(dev, leaders, topic):
    """Seconds, of the partition that has more."""
    return max(told(dev, leader, topic, "isobar_at_stake_seconds", number) for number, leader in enumerate(leaders))


def ask(connection, topic, timeout_ms=1000):
    return wire.produce(connection, topic, 1, batch.encode([b"by hand"]), timeout_ms=timeout_ms)[0]


def bootstraps(dev):
    return {dc: dev.bootstrap(dc) for dc in ("fra", "iad", "sin")}


def end_well(dev, load, topic):
    """After the heal: it goes on, nothing is lost, twice or out of order, and all DCs have the same."""
    assert load.failures() == []
    check(load.sends(), read_back(bootstraps(dev), topic, 1), list(bootstraps(dev)))
    dumps.wait_same(dev, topic, 2)


@pytest.mark.timeout(300)
def test_reject_stops_within_the_budget_and_appends_nothing_beyond_it(dev, topic, figure):
    leaders = create(dev, topic, isobar_max_lag="3s", isobar_on_lag="reject")
    with Load(dev.bootstrap(), topic, rate=200) as load, wire.Connection(dev.kafka(leaders[1])) as by_hand:
        load.wait_acknowledged(100)
        wait.until("a round trip at stake", lambda: at_stake(dev, leaders, topic) < 1)
        with cut_off(dev, "iad", "sin") as cut:
            answers, seen = [], []

            def refuses():
                seen.append(at_stake(dev, leaders, topic))
                answers.append(ask(by_hand, topic))
                return answers[-1] == wire.NOT_ENOUGH_REPLICAS

            wait.until(lambda: f"NOT_ENOUGH_REPLICAS, heard {answers[-3:]}", refuses, MAX_LAG + 10)
            assert set(answers) == {wire.NONE, wire.NOT_ENOUGH_REPLICAS}, "nothing else on the way there"
            wait.for_seconds(2, lambda: seen.append(at_stake(dev, leaders, topic)))
            ends = [told(dev, leader, topic, "isobar_log_end_offset", n) for n, leader in enumerate(leaders)]
            assert {ask(by_hand, topic) for _ in range(20)} == {wire.NOT_ENOUGH_REPLICAS}
            assert [told(dev, leader, topic, "isobar_log_end_offset", n) for n, leader in enumerate(leaders)] == ends
            last = max(send.ended for send in load.acknowledged()) - cut
            figure(f"reject at {MAX_LAG:g} s: last ack {last:.2f} s after the cut, at most {max(seen):.2f} s at stake")
            assert MAX_LAG / 2 < last < MAX_LAG + SLACK
            assert max(seen) <= MAX_LAG
            shown = dev.cli().partition(topic, 0)
            assert shown["budget"] == {"seconds": MAX_LAG, "bytes": None, "records": None, "on_lag": "reject"}
            assert not shown["at_stake"]["breached"] and shown["at_stake"]["known"]
            assert shown["at_stake"]["seconds"] == pytest.approx(told(dev, leaders[0], topic, "isobar_at_stake_seconds"))
            assert told(dev, leaders[0], topic, "isobar_budget_seconds") == MAX_LAG
            # The age of the oldest is another number, and grows.
            ages = http.samples(dev.admin(leaders[0]), "isobar_exposure_seconds", topic=topic, partition=0)
            assert min(age for _, age in ages) > max(seen)
        load.wait_acknowledged(100)
        wait.until("taken again", lambda: ask(by_hand, topic, 5000) == wire.NONE, 30)
    end_well(dev, load, topic)


@pytest.mark.timeout(300)
def test_throttle_slows_producers_before_the_budget_and_holds_them_at_it(dev, topic, figure):
    leaders = create(dev, topic, isobar_max_lag="3s", isobar_on_lag="throttle")
    pauses = []
    heard = lambda event: pauses.append((time.monotonic(), event.throttle_time))
    with Load(dev.bootstrap(), topic, rate=200, throttle_cb=heard) as load, wire.Connection(dev.kafka(leaders[1])) as by_hand:
        load.wait_acknowledged(100)
        wait.until("a round trip at stake", lambda: at_stake(dev, leaders, topic) < 1)
        assert not pauses, "nobody is slowed without need"
        with cut_off(dev, "iad", "sin") as cut:
            asked, seen = [], []

            def held():
                seen.append(at_stake(dev, leaders, topic))
                began = time.monotonic()
                data = batch.encode([b"by hand"])
                error, _, pause_ms = wire.produce_paused(by_hand, topic, 1, data, timeout_ms=1500)
                asked.append((error, pause_ms, time.monotonic() - began))
                return error != wire.NONE

            wait.until(lambda: f"a refusal, heard {asked[-3:]}", held, MAX_LAG + 15)
            error, pause_ms, took = asked[-1]
            assert (error, pause_ms) == (wire.NOT_ENOUGH_REPLICAS, 1000)
            assert took > 1.2, "it waited for its timeout first"
            told_pauses = [pause for error, pause, _ in asked if error == wire.NONE]
            assert told_pauses[0] == 0 and 0 < max(told_pauses) < 1000, told_pauses
            assert told_pauses == sorted(told_pauses), "longer and longer"
            seen.append(at_stake(dev, leaders, topic))
            last = max(send.ended for send in load.acknowledged()) - cut
            slowed = [pause for at, pause in pauses if at > cut]
            figure(
                f"throttle at {MAX_LAG:g} s: librdkafka told to pause {len(slowed)} times,"
                f" up to {max(slowed, default=0):.2f} s; last ack {last:.2f} s after the cut, at most {max(seen):.2f} s at stake"
            )
            assert slowed and max(slowed) > min(slowed) > 0
            assert MAX_LAG / 2 < last < MAX_LAG + SLACK
            assert max(seen) <= MAX_LAG
            # One that waits when the links come back is taken then.
            answers = []
            waiting = threading.Thread(target=lambda: answers.append(ask(by_hand, topic, 25_000)))
            waiting.start()
        waiting.join(30)
        assert answers == [wire.NONE]
        load.wait_acknowledged(100)
        wait.until("nobody is slowed any more", lambda: not any(at > time.monotonic() - 1 for at, _ in pauses), 30)
    end_well(dev, load, topic)


@pytest.mark.timeout(300)
def test_continue_reports_the_breach_and_a_changed_budget_counts_at_once(dev, topic):
    """In two DCs, with the link between them cut: the home hears `__meta`, and its policy can be changed meanwhile."""
    controller = dev.cli().json("cluster", "status")["controller"]
    other = "sin" if controller in dev.nodes("iad") else "iad"
    leaders = create(dev, topic, isobar_replicas=f"fra=3,{other}=3")
    admin = kafka.admin(dev.bootstrap())
    alter(admin, topic, isobar_max_lag="1s").result(30)
    breached = lambda: told(dev, leaders[0], topic, "isobar_budget_breached")
    with Load(dev.bootstrap(), topic, rate=100) as load, wire.Connection(dev.kafka(leaders[1])) as by_hand:
        load.wait_acknowledged(50)
        wait.until("the budget in force", lambda: breached() == 0, errors=(AssertionError,))
        assert told(dev, leaders[0], topic, "isobar_budget_seconds") == 1
        with cut_off(dev, other):
            wait.until("the breach in the metrics", lambda: breached() == 1)
            shown = dev.cli().partition(topic, 0)
            assert shown["at_stake"]["breached"] and shown["budget"]["on_lag"] == "continue", json.dumps(shown)
            text = dev.cli().run("cluster", "partition-info", "--topic", topic, "--partition", 0).stdout
            assert "MORE THAN THE BUDGET" in text and "then continue" in text, text
            load.wait_acknowledged(50)
            assert ask(by_hand, topic) == wire.NONE
            # What is at stake already counts for a budget that begins to bind, and for one that ends.
            alter(admin, topic, isobar_on_lag="reject").result(30)
            wait.until("reject", lambda: ask(by_hand, topic) == wire.NOT_ENOUGH_REPLICAS)
            alter(admin, topic, isobar_max_lag="1h").result(30)
            wait.until("an hour", lambda: ask(by_hand, topic) == wire.NONE)
            alter(admin, topic, isobar_max_lag="1s", isobar_on_lag="continue").result(30)
            load.wait_acknowledged(50)
            assert breached() == 1
        wait.until("the breach is over", lambda: breached() == 0, 60)
    both = {dc: dev.bootstrap(dc) for dc in ("fra", other)}
    assert load.failures() == []
    check(load.sends(), read_back(both, topic, 1), list(both))


@pytest.mark.timeout(300)
def test_what_a_lost_home_may_cost_is_a_number_and_it_costs_no_more(dev, topic, figure):
    """The home is alone and goes on up to its budget; one that is tightened meanwhile counts for the next home."""
    most, several = 100, 3
    leaders = create(dev, topic, isobar_max_lag_records=most, isobar_on_lag="reject")
    there = dev.nodes("iad")[0]
    cli = dev.cli(there)
    with wire.Connection(dev.kafka(leaders[0])) as by_hand:

        def produce(size=several):
            return wire.produce(by_hand, topic, 0, batch.encode([b"by hand"] * size), timeout_ms=1000)

        wait.until("taken", lambda: produce()[0] == wire.NONE)
        wait.until("safe elsewhere", lambda: told(dev, leaders[0], topic, "isobar_at_stake_records") == 0)
        assert told(dev, leaders[0], topic, "isobar_budget_records") == most
        assert produce(most + 1)[0] == wire.MESSAGE_TOO_LARGE
        with cut_off(dev, "iad", "sin"):
            answers = []
            wait.until("the budget's end", lambda: answers.append(produce()) or answers[-1][0] != wire.NONE, 60, 0)
            assert {error for error, _ in answers} == {wire.NONE, wire.NOT_ENOUGH_REPLICAS}
            alone = [offset + n for error, offset in answers if error == wire.NONE for n in range(several)]
            assert most - several < len(alone) <= most
            survives = lambda: cli.json("cluster", "status")["controller"] in dev.nodes("iad") + dev.nodes("sin")
            wait.until("a leader of __meta elsewhere", survives, 60)
            admin = kafka.admin(dev.bootstrap("iad"))
            alter(admin, topic, isobar_max_lag_records="10").result(30)
            planned = moves.plan(cli, "failover", "fra", "--to", "iad", "--topics", topic)[topic]["verdict"]
            assert (planned["claim"], planned["records"]) == ("at_most", 2 * most), "of two partitions"
            text = cli.run("dc", "failover", "fra", "--to", "iad", "--topics", topic, "--plan").stdout
            assert f"at most {2 * most} records" in text, text
            ended = moves.move(cli, "failover", "fra", "--to", "iad", "--topics", topic)
            (first,) = [m for m in ended if m["partition"] == 0]
            claim, cut = first["verdict"], first["cut_offset"]
            assert (claim["claim"], claim["records"], claim["first_offset"]) == ("at_most", most, cut)
            assert set(alone) <= set(range(cut, cut + most)), "the loss lies within the verdict"
            text = cli.run("dc", "history").stdout
            assert f"at most {most} records, offsets {cut}-{cut + most - 1}" in text, text
            moves.wait_led_in([dev.kafka(there)], topic, dev.nodes("iad"), partitions=2)
            leader, _ = kafka.leader(dev.kafka(there), topic)
            assert told(dev, leader, topic, "isobar_budget_records") == 10
    counted = lambda: {m["partition"]: m["beyond_records"] for m in moves.wait_counted(cli, topic)}
    wait.until(lambda: f"both partitions counted, have {counted()}", lambda: len(counted()) == 2, 60)
    assert counted() == {0: len(alone), 1: 0}, "counted to the record"
    figure(f"a budget of {most} records: a home that was cut off acknowledged {len(alone)}, all of them beyond the cut")
    dumps.wait_same(dev, topic, 1)
    # The tightened one is what the second home began with.
    planned = moves.plan(cli, "failover", "iad", "--to", "fra", "--topics", topic)[topic]["verdict"]
    assert planned["claim"] in ("lossless", "at_most") and planned.get("records", 20) == 20, planned


def test_a_budget_that_would_do_nothing_is_refused_by_name(dev, topic):
    for name, config in {
        "isobar.max.lag": {"isobar_replication": "sync", "isobar_max_lag": "5s"},
        "isobar.on.lag": {"isobar_on_lag": "reject"},
    }.items():
        with pytest.raises(Exception, match=name):
            kafka.create_topic(dev.bootstrap(), topic, **config)
