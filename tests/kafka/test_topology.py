"""The topology file: every mistake named at once, and a plan before anything changes."""

import json

from harness import cli, topology


def broken(path, *changes):
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def test_a_good_file_is_good_and_can_be_planned(tmp_path):
    path = topology.write(tmp_path, topology.nodes({"fra": 3, "iad": 3, "sin": 3}))
    assert cli.run("topology", "check", path).returncode == 0
    plan = cli.run("plan", path).stdout
    assert all(word in plan for word in ("fra", "iad", "sin", "default")), plan


def test_a_plan_tells_placement_latency_traffic_and_what_each_failure_costs(tmp_path):
    """And refuses what cannot be met (G1)."""
    path = topology.write(tmp_path, topology.nodes({"fra": 3, "iad": 2, "sin": 1}), ['replication = "sync"', "sync_to = 2"])
    broken(
        path,
        ('between = ["fra", "iad"]\nrtt = "1ms"', 'between = ["fra", "iad"]\nrtt = "90ms"\nbandwidth = "1Gbit"'),
        ('between = ["fra", "sin"]\nrtt = "1ms"', 'between = ["fra", "sin"]\nrtt = "160ms"'),
    )
    policies = json.loads(cli.run("plan", path, "--json").stdout)["policies"]
    (policy,) = [policy for policy in policies if policy["name"] == "default"]
    assert policy["first_partition"] == {"home": "fra", "voters": [1, 2, 3], "learners": [4, 5, 6]}
    # Of two datacenters, the slower one.
    assert policy["acks"] == [{"home": "fra", "waits_for": ["iad", "sin"], "added_ms": 160}]
    wan = {link["to"]: link for link in policy["wan"]}
    assert {to: (link["from"], link["copies"]) for to, link in wan.items()} == {"iad": ("fra", 2), "sin": ("fra", 1)}
    assert [wan[to]["bytes_a_day_per_byte_a_second"] for to in ("iad", "sin")] == [2 * 86_400, 86_400]
    assert wan["iad"]["produce_bytes_per_second_max"] == 10**9 // 8 // 2
    failures = {failure["of"]: failure for failure in policy["failures"]}
    assert "failover" in failures["fra (home)"]["writes"] and failures["fra (home)"]["lost"].startswith("none")
    (sin,) = [failure for of, failure in failures.items() if of.startswith("sin")]
    assert sin["writes"].startswith("stop with a retriable error") and sin["lost"] == "none"
    # There are two others, so a third cannot be waited for.
    broken(path, ("sync_to = 2", "sync_to = 3"))
    refused = cli.run("plan", path, check=False)
    assert refused.returncode != 0 and "sync_to = 3 with 2 remote DC(s); expected at most 2" in refused.stderr


def test_a_key_that_would_have_no_effect_is_named(tmp_path):
    """With what it lacks (S13)."""
    effects = {
        ("sync_to = 1",): ("sync_to", 'replication = "sync" beside it'),
        ('on_lag = "reject"',): ("on_lag", "max_lag"),
        ('replication = "sync"', 'max_lag = "5s"'): ("max_lag", 'replication = "async"'),
        ('sync_timeout = "3s"',): ("sync_timeout", "on_sync_loss"),
    }
    for policy, (key, remedy) in effects.items():
        path = topology.write(tmp_path, topology.nodes({"fra": 1, "iad": 1, "sin": 1}), policy)
        for args in (("topology", "check", path), ("start", "--topology", path, "--node", 1)):
            done = cli.run(*args, check=False)
            number = next(n for n, line in enumerate(path.read_text().splitlines(), 1) if line.startswith(key))
            said = done.stdout + done.stderr
            assert done.returncode != 0 and f"line {number}: error: policy.default.{key}: " in said and remedy in said, said


def test_every_mistake_is_named_with_its_line_in_one_go(tmp_path):
    path = topology.write(tmp_path, topology.nodes({"fra": 3, "iad": 3, "sin": 3}))
    broken(
        path,
        ('name = "iad"', 'name = "IAD"'),
        ("id = 2\n", "id = 1\n"),
        ('rtt = "1ms"', 'rtt = "soon"'),
        ("[policy.default]\n", '[policy.default]\ncolour = "blue"\n'),
    )
    lines = path.read_text().splitlines()
    done = cli.run("topology", "check", path, check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for mistake in ("id = 1", 'name = "IAD"', 'rtt = "soon"', 'colour = "blue"'):
        # Of the two nodes that have it, the second.
        number = [n for n, line in enumerate(lines, 1) if mistake == line][-1]
        assert f":{number}" in said or f"line {number}" in said, f"line {number} ({mistake}) is not named:\n{said}"
    assert "colour" in said and "soon" in said


def test_a_node_does_not_start_with_a_broken_file(tmp_path):
    path = topology.write(tmp_path, topology.nodes({"fra": 1, "iad": 1, "sin": 1}))
    broken(path, ("version = 1", "version = 99"))
    done = cli.run("start", "--topology", path, "--node", 1, check=False)
    assert done.returncode != 0 and "version" in done.stdout + done.stderr


def test_settings_come_from_flags_then_the_environment_then_the_file(tmp_path):
    path = topology.write(tmp_path, topology.nodes({"fra": 1, "iad": 1, "sin": 1}))

    def shown(*args, **env):
        rows = [line.split() for line in cli.run("start", "--show", *args, env=env).stdout.splitlines()]
        return {row[0]: (row[1], row[-1]) for row in rows}

    of_file = shown("--topology", path, "--node", 1)
    assert of_file["node"] == ("1", "--node") and of_file["data_dirs"][1] == str(path)
    both = shown("--node", 2, ISOBAR_TOPOLOGY=str(path), ISOBAR_NODE="1", ISOBAR_DATA_DIR="/tmp/a")
    assert both["topology"] == (str(path), "ISOBAR_TOPOLOGY")
    assert both["node"] == ("2", "--node")
    assert both["data_dirs"] == ("/tmp/a", "ISOBAR_DATA_DIR")


def test_an_unknown_setting_in_the_environment_is_named(tmp_path):
    path = topology.write(tmp_path, topology.nodes({"fra": 1, "iad": 1, "sin": 1}))
    done = cli.run("start", "--topology", path, "--node", 1, check=False, env={"ISOBAR_DATADIR": "/tmp/a"})
    assert done.returncode != 0
    assert "ISOBAR_DATADIR" in done.stderr and "ISOBAR_DATA_DIR" in done.stderr
