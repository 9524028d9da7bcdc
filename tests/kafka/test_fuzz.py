"""Requests of every API and version, damaged at random, against a live node: it lives, and so do others' connections."""

import contextlib
import random
import re
import struct
import time

import pytest

from harness import batch, http, kafka, wait, wire

SEED = 20261128
FUZZ_SECONDS = 10
# A refused one ends its connection, and those behind it are not looked at.
FRAMES_A_CONNECTION = 8
GROWN_BYTES_MAX = 128 << 20
ANSWERED_SECONDS_MAX = 2.0

# The first flexible version of each API (docs/wire.md): from there on the header has tags.
FLEXIBLE = {
    0: 9, 1: 12, 2: 6, 3: 9, 8: 8, 9: 6, 10: 3, 11: 6, 12: 4, 13: 4, 14: 4, 15: 5, 16: 3, 18: 3, 19: 5, 20: 4, 21: 2,
    22: 2, 23: 4, 32: 4, 33: 2, 37: 2, 42: 2, 44: 1, 60: 0, 75: 0,
}  # fmt: skip


def bodies(topic):
    """Whole requests of some versions, to be damaged: `{(api, version): body}`."""
    of_topic = lambda fields: wire.array([wire.string(topic) + wire.array([fields])])
    records = batch.encode([b"a", b"bb"])
    produce = wire.string(None) + struct.pack(">hi", -1, 1000) + of_topic(struct.pack(">ii", 0, len(records)) + records)
    fetch = struct.pack(">iiiibii", -1, 100, 1, 1 << 20, 0, 0, -1) + of_topic(struct.pack(">iiqqi", 0, -1, 0, -1, 1 << 20))
    fetch += wire.array([]) + wire.string("iad")
    names = wire.array([wire.string(topic)])
    group = wire.string("fuzz")
    commit = group + struct.pack(">i", -1) + wire.string("") + struct.pack(">q", -1)
    commit += of_topic(struct.pack(">iq", 0, 1) + wire.string("note"))
    join = group + struct.pack(">ii", 6000, 6000) + wire.string("") + wire.string("consumer")
    join += wire.array([wire.string("range") + struct.pack(">i", 4) + b"\0\0\0\0"])
    configs = wire.array([b"\2" + wire.string(topic) + wire.array([wire.string("retention.ms") + wire.string("9")])])
    return {
        (wire.PRODUCE, 3): produce, (wire.PRODUCE, 8): produce, (wire.FETCH, 11): fetch,
        (wire.LIST_OFFSETS, 4): struct.pack(">ib", -1, 0) + of_topic(struct.pack(">iiq", 0, -1, -1)),
        (wire.METADATA, 0): names, (wire.METADATA, 8): names + b"\0\0\0", (wire.API_VERSIONS, 0): b"",
        (wire.FIND_COORDINATOR, 0): group, (wire.OFFSET_COMMIT, 2): commit,
        (wire.OFFSET_FETCH, 2): group + of_topic(struct.pack(">i", 0)), (11, 2): join,
        (75, 0): b"\1" + struct.pack(">i", 10) + b"\xff\0",
        (wire.INIT_PRODUCER_ID, 0): wire.string(None) + struct.pack(">i", 1000), (33, 0): configs + b"\1",
    }  # fmt: skip


def tags(api, version):
    return b"\0" if version >= FLEXIBLE.get(api, 1 << 15) else b""


def shortest(address, api, version):
    """The shortest run of zeros that is a request of the API: what the oldest versions need is no more than that."""
    for length in range(40):
        with wire.Connection(address) as connection, contextlib.suppress(wire.Closed):
            connection.ask(api, version, tags(api, version) + bytes(length))
            return bytes(length)
    raise AssertionError(f"no run of zeros is a request of API {api} v{version}")


def damaged(rng, data):
    """Bits flipped, an end cut off, or a length that lies; seldom nothing at all."""
    data = bytearray(data)
    for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + 4] = struct.pack(">i", rng.choice([-(2**31), -2, -1, 1 << 16, 1 << 24, 2**31 - 1]))
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(data)


def request(rng, served, known):
    """Of any API in any version; mostly one that would be whole, were it not damaged."""
    api = rng.choice(list(served))
    if rng.random() < 0.8:
        version, body = rng.choice([(version, body) for (of, version), body in known.items() if of == api])
    else:
        version = rng.randrange(served[api][0], served[api][1] + 1)
        body = rng.choice([bytes, rng.randbytes])(rng.randrange(64))
    head = wire.header(api, version, rng.randrange(1 << 31))
    return (damaged(rng, head) if rng.random() < 0.1 else head) + tags(api, version) + damaged(rng, body)


def framed(rng, data):
    """A frame, whose length may be wrong: then the bytes of the next one make up for it, or never come."""
    if rng.random() < 0.02:
        return struct.pack(">i", rng.choice([0, -1, 2**31 - 1, len(data) + rng.randrange(-4, 9)])) + data
    return wire.frame(data)


def send_some(rng, address, served, known):
    """A connection's worth; how many frames it took before the other side closed it."""
    sent = 0
    with wire.Connection(address) as connection, contextlib.suppress(OSError):
        for _ in range(FRAMES_A_CONNECTION):
            connection.send(framed(rng, request(rng, served, known)))
            sent += 1
        connection.end_input()
        connection.socket.settimeout(0.05)
        while connection.socket.recv(1 << 16):
            pass
    return sent


def refusal(one, frame):
    """Who sent the frame, and what the node's log says of it. It tells of one a second: sent until it does."""
    peers = set()

    def said():
        with wire.Connection(one.kafka(1)) as connection:
            peers.add("{}:{}".format(*connection.socket.getsockname()))
            connection.send(frame)
            assert connection.is_closed()
        lines = one.processes[1].output().splitlines()
        return [(peer, line) for line in lines for peer in peers if f" peer={peer} " in line]

    return wait.until("a line about it", said, 10, 0.2)[0]


@pytest.mark.timeout(120)
def test_damaged_requests_of_every_api_harm_nobody(cluster, topic, figure):
    one = cluster({"fra": 1})
    kafka.create_topic(one.bootstrap(), topic)
    kafka.send(one.bootstrap(), topic, ["kept"])
    process, rng = one.processes[1], random.Random(SEED)
    sent, slowest = 0, 0.0
    with wire.Connection(one.kafka(1)) as bystander:
        served = wire.api_versions(bystander)
        assert FLEXIBLE.keys() < served.keys()
        known = bodies(topic)
        others = served.keys() - {api for api, _ in known}
        known |= {(api, served[api][0]): shortest(one.kafka(1), api, served[api][0]) for api in others}
        before, deadline = process.resident_bytes(), time.monotonic() + FUZZ_SECONDS
        while time.monotonic() < deadline:
            sent += send_some(rng, one.kafka(1), served, known)
            began = time.monotonic()
            assert wire.api_versions(bystander) == served
            slowest = max(slowest, time.monotonic() - began)
    grown = process.resident_bytes() - before
    count = lambda name: {at.get("api"): value for at, value in http.samples(one.admin(1), name)}
    [refused] = count("isobar_kafka_protocol_errors_total").values()
    answered = count("isobar_kafka_requests_total")
    figure(
        f"{sent} damaged requests of {len(served)} APIs (seed {SEED}): {sum(answered.values()):.0f} answered, {refused:.0f} connections "
        f"refused, {grown / (1 << 20):.0f} MiB more, a bystander was answered within {slowest * 1000:.0f} ms"
    )
    process.assert_alive()
    assert process.trouble() == []
    assert grown < GROWN_BYTES_MAX and slowest < ANSWERED_SECONDS_MAX
    assert refused > 100 and len(answered) == len(served) and min(answered.values()) > 0, answered
    assert kafka.read(one.bootstrap(), topic)[0] == (0, b"kept")


REFUSED = {
    "an API that is not served": (wire.frame(wire.header(9999, 0, 1)), "request header: API key 9999 is not served"),
    "a version that is not served": (wire.frame(wire.header(wire.METADATA, 99, 1)), "Metadata request: version 99 is not served"),
    "a string longer than its frame": (
        wire.frame(struct.pack(">hhih", wire.METADATA, 5, 1, 32767)),
        "request header: the frame ends 32767 bytes short",
    ),
    "an array longer than its frame": (
        wire.frame(wire.header(wire.METADATA, 5, 1) + b"\x7f\xff\xff\xff"),
        "Metadata request: Request.topics: 2147483647 elements cannot be in the 0 bytes that remain",
    ),
    "bytes behind its end": (
        wire.frame(wire.header(wire.METADATA, 0, 1) + wire.array([]) + b"more"),
        "Metadata request: 4 bytes follow the end of the message",
    ),
    "a length that is none": (struct.pack(">i", -1), "frame length -1 is outside 1..=104857600"),
}


def test_the_log_says_what_was_refused_of_whom_and_why(cluster):
    one = cluster({"fra": 1})
    for name, (frame, why) in REFUSED.items():
        peer, line = refusal(one, frame)
        pattern = rf" INFO isobar::kafka::listener: connection refused listener=clients peer={peer} why={re.escape(why)} unsaid=\d+$"
        assert re.search(pattern, line), f"{name}: {line}"


@pytest.mark.timeout(60)
def test_a_frame_that_does_not_come_in_time_is_given_up(cluster):
    one = cluster({"fra": 1})
    whole = wire.frame(wire.header(wire.METADATA, 5, 3) + struct.pack(">i", -1) + b"\0")
    with wire.Connection(one.kafka(1)) as slow:
        slow.send(whole[:-1])
        assert slow.is_closed(20)
    received = len(whole) - 5
    why = f" why=a frame did not arrive in time ({received} of {received + 1} bytes) "
    wait.until(lambda: f"a line with{why}\n{one.processes[1].tail(5)}", lambda: why in one.processes[1].output())
