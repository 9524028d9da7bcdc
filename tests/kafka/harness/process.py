"""One process of the real binary."""

import os
import re
import signal
import subprocess
from pathlib import Path

from . import wait

BIN = os.environ.get("ISOBAR_BIN", "")
TICKS = os.sysconf("SC_CLK_TCK")

# A colour code may stand before the level.
_TROUBLE = re.compile(r"panicked at|stack backtrace|(?:^|\s|\x1b\[\d+m)ERROR\b")


def environment():
    """Ours without what steers this suite: the binary refuses an ISOBAR_ variable that is no setting."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ISOBAR_")}


class Process:
    """Started on creation; its output goes to a file, which outlives it."""

    def __init__(self, args, log, env=None, cwd=None):
        self.args = [str(arg) for arg in args]
        self.log_path = Path(log)
        self._log = open(self.log_path, "ab")
        self._child = subprocess.Popen(
            self.args,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**environment(), **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        self.pid = self._child.pid

    def alive(self):
        return self._child.poll() is None

    def output(self):
        return self.log_path.read_text(errors="replace")

    def assert_alive(self):
        status = self._child.poll()
        assert status is None, f"{' '.join(self.args)} ended with {status}:\n{self.tail()}"

    def tail(self, lines=40):
        return "\n".join(self.output().splitlines()[-lines:])

    def trouble(self):
        """Lines that no healthy run writes: panics, and ERROR (docs/style.md)."""
        return [line for line in self.output().splitlines() if _TROUBLE.search(line)]

    def send_signal(self, number):
        self._child.send_signal(number)

    def kill9(self):
        if self.alive():
            self.send_signal(signal.SIGKILL)
        self._child.wait(30)
        self._log.close()

    def stop(self):
        """SIGSTOP: the process is there and says nothing. It stands still when this returns."""
        self.send_signal(signal.SIGSTOP)
        wait.until(f"{self.pid} stopped", self._is_stopped, 10, 0.001)

    def _is_stopped(self):
        """The signal stops its threads one by one."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return all(stat.read_text().rsplit(")", 1)[1].split()[0] == "T" for stat in threads)

    def cont(self):
        self.send_signal(signal.SIGCONT)

    def shut_down(self, number=signal.SIGTERM, seconds=30):
        """Asks for an ordered end, and returns the exit status."""
        self.send_signal(number)
        return self.wait_end(seconds)

    def wait_end(self, seconds=30):
        """Waits until the process ends by itself, and returns its exit status."""
        wait.until(lambda: f"the end of {self.args}:\n{self.tail()}", lambda: not self.alive(), seconds)
        return self._child.returncode

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_bytes(self):
        return self._status("VmRSS") * 1024

    def _status(self, key):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise KeyError(key)
