"""Chaos with real processes: `tests/wan/run`, whose README.md says how.

    tests/wan/run [--backend auto|user|netem|toxiproxy] [--keep] SCENARIO.toml…
    tests/wan/run --random N [--seed S]        scenarios drawn from seeds S, S+1, …
    tests/wan/run --judge evidence.json        judges a kept run again
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "kafka")]

from lab import backend, draw, netns, scenario  # noqa: E402


def say(text):
    print(text, flush=True)


def one(path, seed, directory, chosen):
    """In a process of its own (`--inside`), since it moves into its own namespaces."""
    from lab import run

    plan = scenario.load(path)
    try:
        found, figures = run.run(plan, backend.NETS[chosen](plan, seed, directory), directory, say)
        say(f"figure: {plan.name}: {figures}")
    except AssertionError as error:
        # What had to happen in bounded time has not, or a node has ended.
        found = [str(error)]
    for line in found[:40]:
        say(f"ANOMALY {line}")
    if len(found) > 40:
        say(f"… and {len(found) - 40} more")
    return not found


def supervise(path, seed, directory, again, keep, chosen):
    directory.mkdir(parents=True)
    again = f"tests/wan/run --backend {chosen} {again}"
    say(f"== {again}")
    began = time.monotonic()
    command = [sys.executable, "-B", __file__, "--inside", str(directory), "--backend", chosen, "--seed", str(seed), str(path)]
    status = subprocess.run(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL).returncode
    took = f"{time.monotonic() - began:.0f} s"
    if status == 0:
        say(f"ok: {path} ({took})")
        if not keep:
            subprocess.run(["rm", "-rf", str(directory)], check=True)
        return True
    say(f"FAILED: {path} ({took}); history, logs and data: {directory}\nagain: {again}")
    return False


def probe():
    """Whether the kernel has netem, asked in a process of its own, since asking needs a namespace."""
    asked = subprocess.run([sys.executable, "-B", __file__, "--probe"], capture_output=True, text=True)
    if asked.returncode == 2:
        raise netns.Refused(asked.stdout.strip().removeprefix("error: "))
    return asked.stdout.strip() or None


def arguments():
    parser = argparse.ArgumentParser(description="Chaos with real processes")
    parser.add_argument("scenarios", nargs="*", type=Path)
    parser.add_argument("--backend", default="auto", choices=backend.BACKENDS)
    parser.add_argument("--random", type=int, default=0, metavar="N", help="so many scenarios out of seeds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep what a good run leaves, too")
    parser.add_argument("--judge", type=Path, metavar="EVIDENCE")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not (asked.scenarios or asked.random or asked.judge or asked.probe):
        parser.error("name a scenario, or --random N")
    return asked


def judge_again(path):
    from lab import judge, run

    found = judge.judge(**run.from_portable(json.loads(path.read_text())))
    say("\n".join(found) or "nothing wrong")
    return 1 if found else 0


def run_all(asked):
    for path in asked.scenarios:
        scenario.load(path)
    chosen, reason = backend.choose(asked.backend, probe)
    say(f"backend {chosen}: {reason}")
    top = Path(tempfile.mkdtemp(prefix="isobar-wan-"))
    results = []
    for path in asked.scenarios:
        again = f"--seed {asked.seed} {path}"
        results.append(supervise(path, asked.seed, top / path.stem, again, asked.keep, chosen))
    for seed in range(asked.seed, asked.seed + asked.random):
        path = top / f"seed-{seed}.toml"
        path.write_text(draw.text(seed))
        again = f"--random 1 --seed {seed}"
        results.append(supervise(path, seed, top / f"seed-{seed}", again, asked.keep, chosen))
    if all(results) and not asked.keep:
        subprocess.run(["rm", "-rf", str(top)], check=True)
    say(f"wan: {sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


def main():
    asked = arguments()
    try:
        if asked.probe:
            netns.enter_own()
            say(backend.probe_netem() or "")
            return 0
        if asked.judge:
            return judge_again(asked.judge)
        if asked.inside:
            return 0 if one(asked.scenarios[0], asked.seed, asked.inside, asked.backend) else 1
        return run_all(asked)
    except (scenario.Bad, netns.Refused, backend.Unavailable) as error:
        say(f"error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
