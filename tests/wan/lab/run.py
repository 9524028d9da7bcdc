"""One scenario from an empty machine to a judgement."""

import base64
import hashlib
import json
import statistics
import time

from confluent_kafka import Consumer, TopicPartition
from harness import cli, dumps, kafka, wait

from lab.judge import judge
from lab.lab import HOME, Lab
from lab.link import Shape
from lab.load import GROUP
from lab.nemesis import Nemesis
from lab.scenario import DCS, NODES
from lab.watch import Watch

CONVERGE_SECONDS = 240
SENDS_SECONDS = 240
SERVED_SECONDS = 120


def run(scenario, net, directory, say):
    """Anomalies and troubles, a line each, and the figures of the run."""
    lab = Lab(directory, scenario, net)
    try:
        return _run(lab, scenario, say)
    finally:
        lab.close()


def _run(lab, scenario, say):
    lab.start(*NODES)
    lab.wait_ready()
    topics = {topic.name: topic.partitions for topic in scenario.topics}
    for topic in scenario.topics:
        config = {key.replace(".", "_"): value for key, value in topic.config.items()}
        kafka.create_topic(lab.bootstrap(), topic.name, topic.partitions, **config)
    watch = Watch({n: lab.kafka(n) for n in NODES}, list(topics), lab.directory / "history-leaders.jsonl", lab.lives.get)
    lab.start_clients(scenario.rate, scenario.topics)
    _wait_served(lab, topics, SERVED_SECONDS)
    say("   0.0 s  load in every datacenter")
    kept = {}
    nemesis = Nemesis(lab, say, lambda: _keep_ledgers(lab, topics, (), kept))
    nemesis.run(scenario.events, scenario.seconds)

    # All faults are over: from here everything must converge, and every client be served.
    say(f"{scenario.seconds:6.1f} s  everything is whole; waiting until it has converged")
    healed = time.monotonic()
    lab.wait_ready(CONVERGE_SECONDS)
    _wait_served(lab, topics, CONVERGE_SECONDS, healed)
    lab.stop_clients(SENDS_SECONDS)
    watch.stop()
    for topic, partitions in topics.items():
        dumps.wait_same(lab, topic, partitions, CONVERGE_SECONDS)
    wait.until("the ledgers counted", lambda: _counted(lab, nemesis.wiped), CONVERGE_SECONDS, 1.0)
    evidence = _gather(lab, topics, nemesis.wiped, kept)
    (lab.directory / "evidence.json").write_text(json.dumps(portable(evidence)))
    found = judge(**evidence) + nemesis.troubles + _too_near(lab.scenario, evidence)
    found += [f"node {n} wrote: {line}" for n, p in lab.processes.items() for line in p.trouble()]
    return found, _figures(lab, evidence)


def _history(lab, names=(*DCS, "leaders")):
    events = []
    for name in names:
        path = lab.directory / f"history-{name}.jsonl"
        text = path.read_text() if path.exists() else ""
        # The last line may still be on its way.
        events += [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return events


def _wait_served(lab, topics, seconds, since=0.0):
    """Until every datacenter's producer has an answer, in every partition, for a send that began since then."""

    def missing():
        places = {(dc, t, p) for dc in DCS for t, n in topics.items() for p in range(n)}
        for one in _history(lab, DCS):
            if one["op"] == "send" and one["outcome"] == "ok" and one["invoked"] >= since:
                places.discard((one["producer"].split(".")[0], one["topic"], one["p"]))
        return sorted(places)

    wait.until(lambda: f"acknowledgements in {missing()}", lambda: not missing(), seconds, 1.0)


def _told(lab):
    return json.loads(cli.run("dc", "history", "--json", "--admin", lab.admin(5)).stdout)


def _counted(lab, wiped):
    told = _told(lab)
    open_ones = [m for m in told["ended"] if m["beyond_records"] is None and m["from"] not in wiped]
    return not told["under_way"] and not open_ones


def _gather(lab, topics, wiped, kept):
    finals = {}
    for dc in DCS:
        for topic, partitions in topics.items():
            for partition in range(partitions):
                finals.setdefault(dc, {})[topic, partition] = _read_all(lab, dc, topic, partition)
    places = [(t, p) for t, n in topics.items() for p in range(n)]
    digests = {
        (t, p): {n: hashlib.sha256(lab.dump(n, t, p).encode()).hexdigest()[:16] for n in NODES} for t, p in places
    }
    _keep_ledgers(lab, topics, wiped, kept)
    return {
        "history": _history(lab) + _committed(lab, places),
        "finals": finals,
        "dumps": digests,
        "moves": _told(lab)["ended"],
        "ledgers": kept,
        "wiped": wiped,
    }


def _read_all(lab, dc, topic, partition):
    """The whole log as that datacenter's replicas show it: `(offset, leader epoch, value)`."""
    reader = kafka.consumer(lab.bootstrap(dc), client_rack=dc)
    found = []
    try:
        end = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[1]
        reader.assign([TopicPartition(topic, partition, 0)])

        def complete():
            for message in reader.consume(5000, timeout=0.2):
                if message.error() is None and message.offset() < end:
                    found.append((message.offset(), message.leader_epoch(), message.value().decode()))
            return not end or (found and found[-1][0] == end - 1)

        wait.until(lambda: f"{end} records of {topic}-{partition} in {dc}, have {len(found)}", complete, 120, 0.0)
    finally:
        reader.close()
    return found


def _committed(lab, places):
    """What is committed in the end: one read more."""
    reader = Consumer({"bootstrap.servers": lab.bootstrap(), "group.id": GROUP, "log_level": 0})
    invoked = time.monotonic()
    try:
        found = reader.committed([TopicPartition(t, p) for t, p in places], timeout=60)
    finally:
        reader.close()
    return [
        {"op": "committed", "t": time.monotonic(), "invoked": invoked, "dc": "the end", "topic": tp.topic, "p": tp.partition, "offset": max(tp.offset, 0)}
        for tp in found
        if tp.error is None
    ]


def _keep_ledgers(lab, topics, wiped, kept):
    """Adds what the ledgers hold to `kept`: {(topic, p): {value}}."""
    for move in _told(lab)["ended"]:
        topic, partition, epoch = move["topic"], move["partition"], move["home_epoch"]
        for node in move["ledgers"] if topic in topics else ():
            out = lab.directory / f"ledger-{topic}-{partition}-{epoch}-{node}.jsonl"
            if out.exists():
                continue
            where = ("--data-dir", lab.data_dir(node), "--topic", topic, "--partition", partition, "--epoch", epoch)
            done = cli.run("ledger", "export", *where, "--out", out, "--json", check=False)
            if done.returncode != 0:
                # Its disk may have gone since it was counted; what was kept before counts.
                assert NODES[node] in wiped, f"node {node} has no ledger of {topic}-{partition}: {done.stderr}"
                continue
            for record in map(json.loads, out.read_text().splitlines()):
                kept.setdefault((topic, partition), set()).add(base64.b64decode(record["value"]).decode())


def portable(evidence):
    """As JSON has it: the evidence of a failed run can be judged again."""
    named = lambda table, of=lambda x: x: {f"{t}/{p}": of(v) for (t, p), v in table.items()}
    return evidence | {
        "finals": {dc: named(logs) for dc, logs in evidence["finals"].items()},
        "dumps": named(evidence["dumps"]),
        "ledgers": named(evidence["ledgers"], sorted),
    }


def from_portable(table):
    def places(of, kind=lambda x: x):
        return {(k.rsplit("/", 1)[0], int(k.rsplit("/", 1)[1])): kind(v) for k, v in of.items()}

    return table | {
        "finals": {dc: places(logs, lambda log: [tuple(r) for r in log]) for dc, logs in table["finals"].items()},
        "dumps": places(table["dumps"]),
        "ledgers": places(table["ledgers"], set),
    }


def _ack_seconds(evidence, dc):
    ok = (e for e in evidence["history"] if e["op"] == "send" and e["outcome"] == "ok")
    return [e["t"] - e["invoked"] for e in ok if e["producer"].startswith(f"{dc}.")]


def _too_near(scenario, evidence):
    """A WAN that is not there proves nothing: whoever produces into another datacenter waits for the round trip. One
    in ten may be faster: Toxiproxy lets go what waits where a link changes."""
    if evidence["moves"]:
        return []
    far = {dc: scenario.links.get(frozenset((HOME, dc)), Shape()).delay * 2 for dc in DCS if dc != HOME}
    near = {dc: statistics.quantiles(_ack_seconds(evidence, dc), n=10)[0] for dc in far}
    return [
        f"no WAN: one in ten acknowledgements from {HOME} was in {dc} within {near[dc] * 1000:.1f} ms; a round trip is {far[dc] * 1000:.1f} ms"
        for dc in far
        if near[dc] < far[dc]
    ]


def _figures(lab, evidence):
    history = evidence["history"]
    sends = [e for e in history if e["op"] == "send"]
    acks = ", ".join(f"{dc} {statistics.median(_ack_seconds(evidence, dc)) * 1000:.0f} ms" for dc in DCS)
    ok = sum(e["outcome"] == "ok" for e in sends)
    reads, commits = (sum(e["op"] == op for e in history) for op in ("read", "commit"))
    return (
        f"{len(sends)} sends, {ok} acknowledged, {len(sends) - ok} open, p50 {acks}; {reads} reads; {commits} commits; "
        f"{len(evidence['moves'])} moves; ledgers of {sum(map(len, evidence['ledgers'].values()))} records; "
        f"{lab.net.figures()}"
    )

