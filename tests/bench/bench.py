"""Throughput, latency and their price. See `run`."""

import os
import shutil
import sys
import time
from pathlib import Path

import election
import latency
import network
import systems
import throughput
import writes
from price import bare_fdatasync
from report import Report

DIRECTORY = Path(os.environ["BENCH_DIR"])
RECORDS = int(os.environ.get("BENCH_RECORDS", "300000"))
ONLY = os.environ.get("BENCH_ONLY", "")


def wanted(name):
    return not ONLY or ONLY in name.lower()


def one_system(kind, report):
    system = kind(DIRECTORY / kind.__name__)
    try:
        system.start()
        bare = bare_fdatasync(DIRECTORY, 1 << 10)
        print(f"{system.name}: bare append and fdatasync of this disk, p50: {bare:.2f} ms with 1 KiB, "
              f"{bare_fdatasync(DIRECTORY, 64 << 10):.2f} ms with 64 KiB\n")  # fmt: skip
        latency.measure(system, bare, report)
        throughput.measure(system, RECORDS, report)
        throughput.of_kafkas_own_tool(system, RECORDS)
        writes.measure(system, report)
        election.measure(system, report)
    finally:
        system.close()


def main():
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    report, began = Report(), time.monotonic()
    kinds = systems.available()
    for kind in kinds:
        if wanted(kind.name):
            one_system(kind, report)
    if wanted("network"):
        network.measure(DIRECTORY / "network", RECORDS // 2, report)
    print(f"bare append and fdatasync at the end, p50: {bare_fdatasync(DIRECTORY, 1 << 10):.2f} ms with 1 KiB\n")
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    report.summary([kind.name for kind in kinds])
    print(f"took {time.monotonic() - began:.0f} s")
    for text in report.missed:
        print(f"below the floor: {text}")
    sys.exit(1 if report.missed else 0)


if __name__ == "__main__":
    main()
