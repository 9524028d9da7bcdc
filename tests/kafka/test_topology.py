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
