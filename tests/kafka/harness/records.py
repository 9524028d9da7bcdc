"""Records that prove themselves: each carries its number and a checksum of its own bytes."""

import hashlib
import random

_WORDS = "isobar pressure front offset quorum learner voter epoch segment watermark harbour ridge".split()


def line(number, seed=0):
    """The value of record `number`: the same in every run with the same seed, a log line's length."""
    rng = random.Random(seed * 1_000_003 + number)
    text = f"{number:09d} " + " ".join(rng.choices(_WORDS, k=rng.randrange(4, 12)))
    return f"{text} {checksum(text)}"


def checksum(text):
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def number(value):
    """The record's number, after its checksum was found right."""
    text, _, stated = value.rpartition(" ")
    assert checksum(text) == stated, f"a damaged record: {value[:120]!r}"
    return int(text.split(" ", 1)[0])
