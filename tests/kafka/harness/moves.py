"""Moves of homes, by the product's own command line."""

import json

from . import wait, wire

MINUTE = 60


def move(cli, kind, dc, *args, check=True, seconds=2 * MINUTE):
    """Runs `isobar dc KIND DC …` to its end; the moves that ended, as it prints them."""
    done = cli.run("dc", kind, dc, *args, "--yes", "--json", check=check, seconds=seconds)
    return json.loads(done.stdout) if done.returncode == 0 else done


def plan(cli, kind, dc, *args):
    """`{topic: row}` of a plan that changes nothing."""
    planned = cli.json("dc", kind, dc, *args, "--plan")
    return {row["topic"]: row for row in planned["topics"]}


def home(cli, topic, partition=0):
    info = cli.partition(topic, partition)
    return info["home"], info["home_epoch"]


def wait_counted(cli, topic):
    """Until the disks of a lost home have been read; the moves of the topic of which that is so."""

    def counted():
        ended = cli.json("dc", "history")["ended"]
        return [m for m in ended if m["topic"] == topic and m["beyond_records"] is not None]

    return wait.until("the old home's disks read", counted, 60)


def wait_led_in(addresses, topic, nodes, partitions=1, seconds=60):
    """Until every address names a leader among `nodes` for every partition."""

    def led():
        for address in addresses:
            table = wire.metadata(address, [topic])["topics"][topic]["partitions"]
            if len(table) != partitions or not all(p["leader"] in nodes for p in table.values()):
                return False
        return True

    wait.until(f"{topic} led by one of {nodes}", led, seconds, errors=(OSError, AssertionError))


def longest_pause(load, since=0.0):
    """The longest time without an acknowledgement, of those that came after `since`."""
    acks = sorted(send.ended for send in load.acknowledged() if send.ended >= since)
    return max(b - a for a, b in zip(acks, acks[1:], strict=False))
