"""What work costs: time, the brokers' CPU, bytes that reach the device, and what one sync takes."""

import os
import statistics
import time
from pathlib import Path


def bare_fdatasync(directory, size):
    """The median of append and fdatasync to one file, in milliseconds."""
    took, data = [], os.urandom(size)
    path = Path(directory) / "bare"
    with open(path, "wb", buffering=0) as out:
        for _ in range(200):
            began = time.perf_counter()
            out.write(data)
            os.fdatasync(out.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(took) * 1000


def priced(system, work):
    """`(result, seconds, CPU seconds, bytes written by the one that wrote most)` of the brokers."""
    processes = system.processes()
    cpu, written = [p.cpu_seconds() for p in processes], [written_bytes(p) for p in processes]
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    used = sum(p.cpu_seconds() - before for p, before in zip(processes, cpu, strict=True))
    bytes_ = max(written_bytes(p) - before for p, before in zip(processes, written, strict=True))
    return result, seconds, used, bytes_


def written_bytes(process):
    """What the process caused to be written to the device, pages of its page cache included."""
    for line in Path(f"/proc/{process.pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise KeyError("write_bytes")


def percentiles(seconds):
    """p50, p95 and p99, in milliseconds."""
    values = sorted(seconds)
    return tuple(values[min(len(values) - 1, int(len(values) * q))] * 1000 for q in (0.5, 0.95, 0.99))
