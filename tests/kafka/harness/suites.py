"""The clients' own suites, as their projects publish them, against a broker that runs already.

Each runner answers with what the suite said of each of its tests: `passed`, `failed` or `skipped`."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field
from pathlib import Path

from .clients import CLIENTS


@dataclass
class Report:
    said: dict = field(default_factory=dict)
    output: str = ""

    def of(self, outcome):
        return sorted(name for name, said in self.said.items() if said == outcome)

    def tail(self, lines=60):
        return "\n".join(self.output.splitlines()[-lines:])


def franz_go(bootstrap, skip, records, seconds, log):
    """`go test` of pkg/kgo, which setup has compiled."""
    args = [CLIENTS / "go_client" / "kgo.test", "-test.v", f"-test.timeout={seconds}s"]
    if skip:
        args.append(f"-test.skip=^({'|'.join(map(re.escape, skip))})$")
    env = {"KGO_SEEDS": bootstrap, "KGO_TEST_RF": "3", "KGO_TEST_RECORDS": str(records), "KGO_LOG_LEVEL": "none"}
    # Some of it reads its own source.
    home = (CLIENTS / "go_client" / "kgo.dir").read_text().strip()
    output = _run(args, env, seconds + 10, log, home)
    outcomes = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}
    said = {name: outcomes[word] for word, name in re.findall(r"^--- (\w+): (\w+) ", output, re.MULTILINE)}
    # A test that never ended says nothing of itself.
    for name in re.findall(r"^=== RUN +(\w+)$", output, re.MULTILINE):
        said.setdefault(name, "failed")
    return Report(said, output)


def kafka_python(bootstrap, skip, version, seconds, log):
    """Its integration tests. `version` is the Kafka whose features they may ask for."""
    home, report = CLIENTS / "kafka_python_suite", log.with_suffix(".xml")
    args = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--timeout=120", f"--junitxml={report}"]
    args += ["test/integration", "--ignore=test/integration/test_ssl_integration.py"]
    args += [f"--deselect=test/integration/{name}" for name in skip]
    env = {"KAFKA_URI": f"kafka://{bootstrap}", "KAFKA_VERSION": version, "KAFKA_ROOT": str(home), "PYTHONPATH": str(home)}
    output = _run(args, env, seconds, log, home)
    said = {}
    for case in xml.parse(report).iter("testcase"):
        words = {child.tag for child in case}
        outcome = "failed" if words & {"failure", "error"} else "skipped" if "skipped" in words else "passed"
        said[f"{case.get('classname').split('.')[-1]}.py::{case.get('name')}"] = outcome
    return Report(said, output)


def librdkafka(bootstrap, version, seconds, log, skip=(), tests=(), subtest="", at_once=1):
    """Its test runner in its quick mode, without what needs no broker: all but `skip`, or the `tests` alone."""
    home, report, conf = CLIENTS / "librdkafka_suite", log.with_suffix(".json"), log.with_suffix(".conf")
    conf.write_text(f"bootstrap.servers={bootstrap}\ntest.topic.random=true\ntest.timeout.multiplier=3\n")
    env = {
        "CI": None,
        "LD_LIBRARY_PATH": f"{home}/src:{home}/src-cpp",
        "RDKAFKA_TEST_CONF": str(conf),
        "SUBTESTS": subtest or None,
        "TESTS": ",".join(tests) or None,
        "TESTS_SKIP": ",".join(skip) or None,
        "TEST_KAFKA_VERSION": version,
        "TEST_REPORT": str(report),
    }
    output = _run([home / "tests" / "test-runner", "-Q", "-L", "-K", f"-p{at_once}"], env, seconds, log, home / "tests")
    outcomes = {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped"}
    assert report.exists(), f"the runner ended early:\n{output[-4000:]}"
    said = json.loads(report.read_text())["tests"]
    return Report({name: outcomes.get(one["state"], "failed") for name, one in said.items() if name != "<MAIN>"}, output)


def _run(args, env, seconds, log, cwd=None):
    """Runs one to its end, however it ends: the tests say what became of them."""
    with Path(log).open("w") as file:
        process = subprocess.Popen(
            [str(arg) for arg in args],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in {**os.environ, **env}.items() if value is not None},
            cwd=cwd,
        )
        try:
            process.wait(seconds)
        finally:
            process.kill()
            process.wait()
    return Path(log).read_text(errors="replace")
