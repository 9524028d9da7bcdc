"""What must hold of a history. Pure: events in, one line for every anomaly out.

`history` is what the clients and the watch over the leaders wrote (lab/load.py, lab/watch.py); `finals` is the
whole log as each datacenter shows it after everything has healed; `dumps` the digest of each node's `log dump`;
`moves` what `isobar dc history` tells; `ledgers` the values that old homes kept. A send without an answer is open:
it may be there or not. What is lost counts only if no verdict and no ledger accounts for it.
"""

from collections import defaultdict

# Bits of a leader epoch below the home epoch.
ELECTION_BITS = 17


def judge(history, finals, dumps, moves, ledgers, wiped):
    """`finals`: {dc: {(topic, p): [(offset, epoch, value)]}}; `dumps`: {(topic, p): {node: digest}};
    `ledgers`: {(topic, p): {value}}; `wiped`: {dc: ms} when a scenario has destroyed the disks of a datacenter."""
    by_op = defaultdict(list)
    for event in history:
        by_op[event["op"]].append(event)
    accounted = Accounts(moves, ledgers, wiped)
    answered = {s["value"] for s in by_op["send"]}
    sends = by_op["send"] + [{**i, "outcome": "unknown"} for i in by_op["invoke"] if i["value"] not in answered]
    found = []
    for dc, logs in finals.items():
        for place, log in logs.items():
            mine = [s for s in sends if (s["topic"], s["p"]) == place]
            name = f"{place[0]}-{place[1]} in {dc}"
            found += _gaps(name, log)
            found += _lost(name, place, log, mine, accounted)
            found += _unsent(name, log, mine)
            found += _duplicates(name, log)
            found += _order(name, log, {s["value"]: s for s in mine})
            found += _epochs(name, log)
    found += _disagreement(finals)
    found += _dumps(dumps)
    found += _vanished(by_op["read"], finals, accounted)
    found += _commits(by_op["commit"], by_op["committed"], accounted)
    found += _leaders(by_op["leader"])
    return found


class Accounts:
    """Which losses the cluster has owned up to: beyond the cut of a move that did not claim to be lossless, and in
    a ledger, or on disks that are destroyed."""

    def __init__(self, moves, ledgers, wiped):
        self.ledgers, self.wiped = ledgers, wiped
        self.cuts = defaultdict(list)
        for move in moves:
            if move["verdict"]["claim"] != "lossless":
                self.cuts[move["topic"], move["partition"]].append(move)

    def excuses(self, place, offset, value):
        for move in self.cuts.get(place, ()):
            destroyed = self.wiped.get(move["from"], float("inf")) < move["ended_ms"]
            if offset >= move["cut_offset"] and (destroyed or value in self.ledgers.get(place, ())):
                return True
        return False

    def lossy(self, topic):
        return any(name == topic for name, _ in self.cuts)


def _gaps(name, log):
    for (a, *_), (b, *_) in zip(log, log[1:], strict=False):
        if b != a + 1:
            yield f"gap: {name} goes from offset {a} to {b}"


def _lost(name, place, log, sends, accounted):
    there = {offset: value for offset, _, value in log}
    for send in sends:
        if send["outcome"] != "ok" or there.get(send["offset"]) == send["value"]:
            continue
        if not accounted.excuses(place, send["offset"], send["value"]):
            instead = there.get(send["offset"], "nothing")
            yield f"lost: {send['value']} was acknowledged at {send['offset']}; {name} has {instead} there, and nothing accounts for it"


def _unsent(name, log, sends):
    outcomes = {s["value"]: s["outcome"] for s in sends}
    for offset, _, value in log:
        if value not in outcomes:
            yield f"phantom: {name} has {value} at {offset}, which nobody sent"
        elif outcomes[value] == "fail":
            yield f"refused yet there: {name} has {value} at {offset}, which was certainly not taken"


def _duplicates(name, log):
    seen = {}
    for offset, _, value in log:
        if value in seen:
            yield f"duplicate: {name} has {value} at {seen[value]} and {offset}"
        seen[value] = offset


def _order(name, log, sends):
    last = {}
    for offset, _, value in log:
        send = sends.get(value)
        if send is None:
            continue
        if send["seq"] < last.get(send["producer"], -1):
            yield f"order: {name} has {value} at {offset}, after a later one of its producer"
        last[send["producer"]] = max(send["seq"], last.get(send["producer"], -1))


def _epochs(name, log):
    for (_, a, _), (offset, b, _) in zip(log, log[1:], strict=False):
        if b < a:
            yield f"epoch back: {name} goes from leader epoch {a} to {b} at {offset}"


def _disagreement(finals):
    seen = {}
    for dc, logs in finals.items():
        for place, log in logs.items():
            for offset, epoch, value in log:
                other, theirs = seen.setdefault((place, offset), (dc, (epoch, value)))
                if theirs != (epoch, value):
                    yield f"offsets differ: {place[0]}-{place[1]} at {offset} is {theirs} in {other} and {(epoch, value)} in {dc}"
    for place in {place for logs in finals.values() for place in logs}:
        lengths = {dc: len(logs.get(place, ())) for dc, logs in finals.items()}
        if len(set(lengths.values())) > 1:
            yield f"offsets differ: {place[0]}-{place[1]} has so many records: {lengths}"


def _dumps(dumps):
    for place, of in dumps.items():
        if len(set(of.values())) > 1:
            yield f"dumps differ: {place[0]}-{place[1]}: {of}"


def _vanished(reads, finals, accounted):
    """What a client has read is there at the end, at its offset; else it was shown too early (R5, I3)."""
    final = {}
    for logs in finals.values():
        for place, log in logs.items():
            final.setdefault(place, {offset: value for offset, _, value in log})
    told = set()
    for read in reads:
        place, offset, value = (read["topic"], read["p"]), read["offset"], read["value"]
        now = final.get(place, {}).get(offset)
        if now == value or accounted.excuses(place, offset, value) or (place, offset, value) in told:
            continue
        told.add((place, offset, value))
        yield f"vanished: {read['dc']} has read {value} at {place[0]}-{place[1]} offset {offset}; in the end {now} is there"


def _commits(commits, committed, accounted):
    """A register for each partition: a read finds what no acknowledged write had replaced before the read began."""
    writes = defaultdict(list)
    for commit in commits:
        if commit["outcome"] != "fail":
            writes[commit["topic"], commit["p"]].append(commit)
    for read in committed:
        place = read["topic"], read["p"]
        before = [w for w in writes[place] if w["outcome"] == "ok" and w["t"] < read["invoked"]]
        if not before or accounted.lossy("__consumer_offsets") or accounted.lossy(place[0]):
            continue
        newest = max(w["invoked"] for w in before)
        possible = {w["offset"] for w in writes[place] if w["invoked"] < read["t"] and (w["outcome"] != "ok" or w["t"] >= newest)}
        if read["offset"] not in possible:
            yield f"commit lost: {read['dc']} finds {read['offset']} committed for {place[0]}-{place[1]}; acknowledged and not replaced: {sorted(possible)[-5:]}"


def _leaders(seen):
    leader, home, last = {}, {}, {}
    for one in sorted(seen, key=lambda s: s["t"]):
        place, epoch = (one["topic"], one["p"]), one["epoch"]
        node, dc = leader.setdefault((place, epoch), (one["leader"], one["dc"]))
        if node != one["leader"]:
            yield f"two leaders: {place[0]}-{place[1]} in leader epoch {epoch}: nodes {node} and {one['leader']}"
        dc = home.setdefault((place, epoch >> ELECTION_BITS), dc)
        if dc != one["dc"]:
            yield f"two homes: {place[0]}-{place[1]} in home epoch {epoch >> ELECTION_BITS}: {dc} and {one['dc']}"
        teller = (place, one["node"], one["life"])
        if epoch < last.get(teller, -1):
            yield f"epoch back: node {one['node']} tells leader epoch {epoch} of {place[0]}-{place[1]} after {last[teller]}"
        last[teller] = max(epoch, last.get(teller, -1))
