"""The topology file: every mistake named at once, and a plan before anything changes."""

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
    for mistake in ('name = "IAD"', 'rtt = "soon"', 'colour = "blue"'):
        number = next(n for n, line in enumerate(lines, 1) if mistake in line)
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
