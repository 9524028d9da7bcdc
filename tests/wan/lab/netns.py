"""Namespaces without names: they are open files, and gone with the process that holds them.

The run itself moves into a network and a mount namespace of its own, so that neither its addresses nor its
small disks exist outside of it, and nothing is left behind, however it ends.
"""

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000
SIOCSIFADDR, SIOCSIFNETMASK, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFTXQLEN = 0x8916, 0x891C, 0x8913, 0x8914, 0x8943
MS_REC, MS_PRIVATE = 0x4000, 0x40000
# Packets that a namespace holds for the router while that is not scheduled.
QUEUE_PACKETS = 5000

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """This machine does not let us build the lab; the text says what and why."""


def _call(what, result):
    if result != 0:
        raise Refused(f"{what}: {os.strerror(ctypes.get_errno())} (needs root and /dev/net/tun)")


def enter_own(spaces=CLONE_NEWNET | CLONE_NEWNS):
    _call("unshare", _libc.unshare(spaces))
    _call("mount --make-rprivate /", _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def small_disk(path, megabytes):
    os.makedirs(path, exist_ok=True)
    _call(f"mount tmpfs on {path}", _libc.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, f"size={megabytes}m".encode()))


class Namespace:
    """One network namespace with a TUN device; `file` is the namespace, `tun` the router's end."""

    def __init__(self, address, own=False):
        """`own`: the device goes into the namespace that we are in."""
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if not own:
            _call("unshare", _libc.unshare(CLONE_NEWNET))
        self.file = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.tun = _tun(address)
        finally:
            _call("setns", _libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def inside(self, args):
        """`args` run in here, as the same process id, which dies with us."""
        enter = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.file}"]
        return ["setpriv", "--pdeathsig", "KILL", *enter, *map(str, args)]


def _tun(address):
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"wan0", IFF_TUN | IFF_NO_PI))
    except OSError as error:
        raise Refused(f"/dev/net/tun: {error}") from error
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:

        def ask(request, device, payload):
            fcntl.ioctl(control, request, struct.pack("16s", device) + payload.ljust(24, b"\0"))

        def inet(text):
            return struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(text))

        ask(SIOCSIFADDR, b"wan0", inet(address))
        ask(SIOCSIFNETMASK, b"wan0", inet("255.255.0.0"))
        ask(SIOCSIFTXQLEN, b"wan0", struct.pack("=i", QUEUE_PACKETS))
        for device in (b"wan0", b"lo"):
            ask(SIOCSIFFLAGS, device, struct.pack("=h", 0x41))
    return tun
