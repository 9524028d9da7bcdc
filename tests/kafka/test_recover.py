"""Most of `__meta` is gone for good: one command goes on with what is left, and nothing else does."""

import json

import pytest

from harness import cli, dumps, http, kafka, moves, wait

# The exit status of a node that is to be started again.
BEGIN_ANEW = 75


def meta(one, node):
    return one.cli(node).json("cluster", "status")["meta"]


def here(one, node):
    return one.cli(node).json("meta", "status")


def recover(one, node, *args, check=False):
    return cli.run("meta", "recover", "--topology", one.topology, "--node", node, *args, check=check)


def refused(one, node, *args):
    done = recover(one, node, *args)
    assert done.returncode == 1, done.stdout
    return done.stderr


def wait_follow(one, *numbers, said=()):
    """Until all serve clients and have said this; who has read what holds no more ends once, and is started again.

    Serving alone does not tell: a majority of the old `__meta` may serve before it hears of the new one.
    """

    def missing(number):
        if not one.processes[number].alive():
            assert one.processes.pop(number).wait_end() == BEGIN_ANEW
            one.start(number, ready=False)
        output = one.processes[number].output()
        serves = http.status(one.admin(number), "/readyz") == 200
        return [text for text in said if text not in output] + ([] if serves else ["/readyz"])

    def shown():
        return "\n".join(f"node {n} lacks {missing(n)}\n{one.processes[n].tail(15)}" for n in numbers)

    wait.until(shown, lambda: not any([missing(number) for number in numbers]), 120, 0.1)


def wait_votes(one, node, voters):
    wait.until(lambda: f"{voters} vote: {meta(one, node)}", lambda: sorted(meta(one, node)["voters"]) == voters, 60)


@pytest.mark.timeout(600)
def test_two_of_three_datacenters_are_gone_for_good(cluster, topic, tmp_path):
    one = cluster()
    fra, iad, sin = (one.in_dc(dc) for dc in ("fra", "iad", "sin"))
    undecided = f"{topic}-undecided"
    kafka.create_topic(one.bootstrap(), topic, 2)
    for partition in range(2):
        kafka.send(one.bootstrap("fra"), topic, [b"before-%d" % i for i in range(100)], partition)
    # The disks say how far it was decided, too: a survivor that is restarted knows the topic.
    dumps.wait_same(one, topic, 2)

    # Something that only the lost majority decides.
    one.kill9(*sin)
    first = sin[0]
    assert "is named as lost, and it answers" in refused(one, first, "--lost", "fra,iad", "--accept-loss", "--yes")
    kafka.create_topic(one.bootstrap("fra"), undecided)
    kafka.send(one.bootstrap("fra"), undecided, [b"kept"] * 5)
    dumps.wait_same(one, undecided, 1, without=sin)
    held = one.dump(fra[0], undecided, 0)
    one.kill9(*fra, *iad)
    one.start(*sin, ready=False)
    survivor = one.cli(first)
    wait.until("nobody leads __meta", lambda: here(one, first)["controller"] is None, 30, errors=(cli.Failed,))

    said = []

    def moves_nothing():
        refusal = moves.move(survivor, "failover", "fra", "--to", "sin", "--accept-loss", check=False)
        assert refusal.returncode != 0
        said.append(refusal.stderr)
        return "the metadata quorum has no leader" in refusal.stderr

    wait.until(lambda: f"refused for want of a majority: {said[-1:]}", moves_nothing, 60)

    # What would be wrong is refused, and changes nothing.
    lost = ("--lost", "fra", "--lost", "iad")
    assert "process" in refused(one, first, *lost, "--accept-loss", "--yes"), "the node runs"
    assert "is no data directory" in refused(one, first, "--data-dir", tmp_path / "elsewhere", *lost)
    last = sin[-1]
    one.kill9(last)
    assert "belongs to node" in refused(one, first, "--data-dir", one.data_dir(last), *lost)
    assert "they are a majority" in refused(one, last, "--lost", "fra", "--accept-loss", "--yes")
    one.kill9(first)
    assert f"nodes {first} do not answer" in refused(one, last, *lost, "--accept-loss", "--yes")
    one.start(first, ready=False)
    one.start(last, ready=False)

    def comes_up(number):
        return here(one, number)["log"] is not None

    for number in (first, last):
        wait.until(f"node {number} answers", lambda number=number: comes_up(number), 30, errors=(cli.Failed,))
    # Where there is most of the log; the others say so.
    ends = {n: (here(one, n)["log"]["term"], here(one, n)["log"]["index"]) for n in sin}
    best = max(sin, key=lambda n: ends[n])
    others = [n for n in sin if n != best]
    one.kill9(best)
    assert "say --accept-loss" in refused(one, best, *lost, "--yes")
    assert "nothing was changed" in refused(one, best, *lost, "--accept-loss"), "nobody says yes"
    plan = json.loads(recover(one, best, *lost, "--plan", "--json", check=True).stdout)
    assert (plan["left"], plan["lost"], plan["recovered"]) == (others, [*fra, *iad], False)
    said = recover(one, best, *lost, "--accept-loss", "--yes", check=True).stdout
    assert "May be lost" in said and "must not be started where they cannot reach this one" in said
    one.start(best, ready=False)
    wait_follow(one, *sin)
    wait_votes(one, best, sin)

    # One of them may be lost again, and homes move.
    one.kill9(best)
    survivor = one.cli(others[0])
    wait.until("another leader", lambda: survivor.json("cluster", "status")["controller"] in others, 60, errors=(cli.Failed,))
    ended = moves.move(survivor, "failover", "fra", "--to", "sin", "--accept-loss", "--topics", topic)
    assert {(m["to"], m["accept_loss"]) for m in ended} == {("sin", True)} and len(ended) == 2
    assert min(m["home_epoch"] for m in ended) > 64, "no epoch that the old __meta may have handed out"
    one.start(best)
    moves.wait_led_in([one.kafka(n) for n in sin], topic, sin, 2)
    before = [b"before-%d" % i for i in range(100)]
    for partition in range(2):
        kafka.send(one.bootstrap("sin"), topic, [b"after"] * 10, partition)
        assert [value for _, value in kafka.read(one.bootstrap("sin"), topic, partition)] == before + [b"after"] * 10

    # The lost come back after all: most of the old majority with their disks, and one without.
    wiped = iad[-1]
    back = [n for n in fra + iad if n != wiped]
    one.wipe(wiped)
    one.start(*back, ready=False)
    follows = "this node leaves the one that it had, and follows"
    # Nobody deletes what a __meta that has forgotten does not know.
    wait_follow(one, *back, said=(follows, "does not know it: it is kept"))
    leader = survivor.json("cluster", "status")["controller"]
    assert leader in one.numbers() and here(one, fra[0])["log"]["home_epoch"] > 1
    assert {one.dump(number, undecided, 0) for number in back} == {held}
    one.start(wiped)
    wait_votes(one, best, one.numbers())
    kafka.wait_in_sync(one.kafka(best), topic, 2)
    dumps.wait_same(one, topic, 2)
    assert undecided not in [t["name"] for t in survivor.json("topic", "list")["topics"]]

