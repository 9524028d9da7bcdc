"""Each anomaly, made by hand: the checker must see it, and nothing else. A good history has none."""

import copy

import pytest
from lab.judge import judge

EPOCH = 1 << 17
PLACE = ("t", 0)


def send(offset, outcome="ok", producer="fra.1", t=1.0):
    value = f"v{offset}"
    one = {"op": "send", "producer": producer, "topic": "t", "p": 0, "seq": offset, "value": value, "outcome": outcome, "t": t, "invoked": t - 0.5}
    return one | ({"offset": offset} if outcome == "ok" else {})


def commit(offset, invoked, t, outcome="ok"):
    return {"op": "commit", "dc": "fra", "topic": "t", "p": 0, "offset": offset, "outcome": outcome, "invoked": invoked, "t": t}


def committed(offset, invoked, t):
    return {"op": "committed", "dc": "fra", "topic": "t", "p": 0, "offset": offset, "invoked": invoked, "t": t}


def leader(node, dc, epoch, t, teller=1):
    return {"op": "leader", "t": t, "node": teller, "life": 1, "topic": "t", "p": 0, "leader": node, "dc": dc, "epoch": epoch}


def read(offset, value):
    return {"op": "read", "t": 2.0, "dc": "iad", "topic": "t", "p": 0, "offset": offset, "epoch": EPOCH, "value": value}


@pytest.fixture
def good():
    log = [(o, EPOCH, f"v{o}") for o in range(4)]
    return {
        "history": [
            *(send(o) for o in range(4)),
            read(0, "v0"),
            commit(2, 3.0, 4.0),
            committed(2, 5.0, 6.0),
            leader(1, "fra", EPOCH, 1.0),
            leader(2, "fra", EPOCH + 1, 2.0),
        ],
        "finals": {dc: {PLACE: list(log)} for dc in ("fra", "iad")},
        "dumps": {PLACE: {1: "a", 4: "a"}},
        "moves": [],
        "ledgers": {},
        "wiped": {},
    }


def kinds(evidence):
    return {line.split(":")[0] for line in judge(**evidence)}


def everywhere(evidence, change):
    for logs in evidence["finals"].values():
        change(logs[PLACE])


def lossy_move(cut, claim="unbounded_since"):
    return {"topic": "t", "partition": 0, "from": "fra", "to": "iad", "cut_offset": cut, "verdict": {"claim": claim}, "ended_ms": 100}


def test_a_good_history_has_nothing_wrong(good):
    assert judge(**good) == []


def test_an_open_send_may_be_there_or_not(good):
    good["history"] = [e for e in good["history"] if e.get("value") != "v3" or e["op"] != "send"]
    good["history"].append({"op": "invoke", "t": 1.0, "producer": "fra.1", "topic": "t", "p": 0, "seq": 3, "value": "v3"})
    assert judge(**good) == []
    everywhere(good, lambda log: log.pop())
    assert judge(**good) == []


def test_an_acknowledged_record_that_is_missing_is_lost(good):
    everywhere(good, lambda log: log.pop())
    assert kinds(good) == {"lost"}


def test_a_loss_in_the_ledger_beyond_the_cut_is_accounted_for(good):
    everywhere(good, lambda log: log.pop())
    good |= {"moves": [lossy_move(3)], "ledgers": {PLACE: {"v3"}}}
    assert judge(**good) == []
    assert kinds(good | {"ledgers": {}}) == {"lost"}, "no ledger has it"
    assert kinds(good | {"moves": [lossy_move(4)]}) == {"lost"}, "it was before the cut"
    assert kinds(good | {"moves": [lossy_move(3, "lossless")]}) == {"lost"}, "the verdict said that nothing is"


def test_what_was_on_destroyed_disks_is_accounted_for_by_the_verdict_alone(good):
    everywhere(good, lambda log: log.pop())
    good |= {"moves": [lossy_move(3)], "wiped": {"fra": 50}}
    assert judge(**good) == []
    assert kinds(good | {"wiped": {"sin": 50}}) == {"lost"}
    assert kinds(good | {"wiped": {"fra": 150}}) == {"lost"}, "the disks were there when the home had moved"


def test_a_value_at_two_offsets_is_a_duplicate(good):
    everywhere(good, lambda log: log.append((4, EPOCH, "v3")))
    assert kinds(good) == {"duplicate"}


def test_a_producers_records_out_of_order_are_seen(good):
    for e in good["history"]:
        if e["op"] == "send" and e["offset"] in (1, 2):
            e["seq"] = 3 - e["seq"]
    assert kinds(good) == {"order"}


def test_two_datacenters_that_differ_at_an_offset_are_seen(good):
    good["history"].append(send(9) | {"offset": 3, "outcome": "unknown"})
    good["finals"]["iad"][PLACE][3] = (3, EPOCH, "v9")
    assert "offsets differ" in kinds(good)


def test_the_same_record_under_two_leader_epochs_is_seen(good):
    good["finals"]["iad"][PLACE][3] = (3, EPOCH + 1, "v3")
    assert kinds(good) == {"offsets differ"}


def test_a_shorter_log_in_one_datacenter_is_seen(good):
    good["history"][3]["outcome"] = "unknown"
    good["finals"]["iad"][PLACE].pop()
    assert kinds(good) == {"offsets differ"}


def test_dumps_that_differ_are_seen(good):
    good["dumps"][PLACE][4] = "b"
    assert kinds(good) == {"dumps differ"}


def test_a_gap_is_seen(good):
    good["history"][1]["outcome"] = "unknown"
    everywhere(good, lambda log: log.pop(1))
    assert kinds(good) == {"gap"}


def test_what_nobody_sent_is_seen(good):
    everywhere(good, lambda log: log.append((4, EPOCH, "alien")))
    assert kinds(good) == {"phantom"}


def test_what_was_refused_and_is_there_is_seen(good):
    good["history"][3]["outcome"] = "fail"
    assert kinds(good) == {"refused yet there"}


def test_what_was_read_and_is_gone_has_vanished(good):
    good["history"].append(read(3, "another"))
    assert kinds(good) == {"vanished"}
    good |= {"moves": [lossy_move(3)], "ledgers": {PLACE: {"another"}}}
    assert judge(**good) == [], "the ledger has it"


def test_a_leader_epoch_that_goes_back_in_a_log_is_seen(good):
    everywhere(good, lambda log: log.__setitem__(1, (1, EPOCH + 5, "v1")))
    assert kinds(good) == {"epoch back"}


def test_a_node_that_tells_an_older_leader_epoch_is_seen(good):
    good["history"].append(leader(1, "fra", EPOCH, 3.0))
    assert kinds(good) == {"epoch back"}
    good["history"][-1]["life"] = 2
    assert judge(**good) == [], "it has been restarted"


def test_two_leaders_of_one_epoch_are_seen(good):
    good["history"].append(leader(3, "fra", EPOCH + 1, 3.0, teller=2))
    assert kinds(good) == {"two leaders"}


def test_two_homes_in_one_home_epoch_are_seen(good):
    good["history"].append(leader(4, "iad", EPOCH + 2, 3.0))
    assert kinds(good) == {"two homes"}
    good["history"][-1]["epoch"] = 2 * EPOCH
    assert judge(**good) == [], "a new home has an epoch of its own"


@pytest.mark.parametrize("found", [0, 1])
def test_a_commit_that_is_lost_or_goes_back_is_seen(good, found):
    good["history"] += [commit(1, 1.0, 2.0), committed(found, 7.0, 8.0)]
    assert kinds(good) == {"commit lost"}


def test_an_open_commit_may_count_or_not(good):
    good["history"].append(commit(3, 5.0, 6.0, "unknown"))
    for found in (2, 3):
        tried = copy.deepcopy(good)
        tried["history"].append(committed(found, 7.0, 8.0))
        assert judge(**tried) == []


def test_a_refused_commit_does_not_count(good):
    good["history"] += [commit(3, 5.0, 6.0, "fail"), committed(3, 7.0, 8.0)]
    assert kinds(good) == {"commit lost"}
