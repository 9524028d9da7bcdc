"""One direction of a WAN link: loss, rate with a queue, delay and jitter, in the order of packets.

Pure: time and length in, release times out. Jitter never lets a packet overtake another: most WANs do not,
and QUIC takes three overtaken packets for a loss.
"""

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shape:
    """Of one direction. Delay and jitter in seconds (jitter is a standard deviation), loss and duplicate as
    shares from 0 to 1, rate in bits a second (0: no limit)."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    rate: float = 0.0


# A bottleneck's queue, in seconds of its rate: beyond it, the tail is dropped.
QUEUE_SECONDS = 0.2


@dataclass
class Link:
    shape: Shape
    seed: str
    seen: int = 0
    lost: int = 0
    dropped: int = 0
    doubled: int = 0
    _free_at: float = 0.0
    _last: float = 0.0
    _random: random.Random = field(init=False)

    def __post_init__(self):
        self._random = random.Random(self.seed)

    def admit(self, now, length):
        """When the packet leaves the other end: no time, one, or two."""
        self.seen += 1
        shape, at = self.shape, now
        if shape.loss and self._random.random() < shape.loss:
            self.lost += 1
            return []
        if shape.rate:
            start = max(self._free_at, now)
            if start - now > QUEUE_SECONDS:
                self.dropped += 1
                return []
            at = self._free_at = start + length * 8 / shape.rate
        at += shape.delay
        if shape.jitter:
            at += abs(self._random.gauss(0, shape.jitter))
        at = self._last = max(at, self._last)
        if shape.duplicate and self._random.random() < shape.duplicate:
            self.doubled += 1
            return [at, at]
        return [at]
