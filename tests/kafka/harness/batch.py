"""Record batches by hand (format v2), for requests that no client would make."""

import struct
import time

_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = (_byte >> 1) ^ (0x82F63B78 if _byte & 1 else 0)
    _TABLE.append(_byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def encode(values, producer=(-1, -1, -1), timestamp=None, attributes=0, crc=None, count=None):
    """One batch of records without keys; `producer` is (id, epoch, base sequence). `crc` and `count`
    lie where they are given."""
    timestamp = int(time.time() * 1000) if timestamp is None else timestamp
    records = b""
    for delta, value in enumerate(values):
        body = b"\0" + varint(0) + varint(delta) + varint(-1) + varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    count = len(values) if count is None else count
    signed = struct.pack(">hiqqqhii", attributes, len(values) - 1, timestamp, timestamp, *producer, count)
    signed += records
    crc = crc32c(signed) if crc is None else crc
    body = struct.pack(">ibI", -1, 2, crc) + signed
    return struct.pack(">qi", 0, len(body)) + body


def split(records):
    """`(base offset, last offset, bytes)` of each whole batch; a fetch may cut the last one."""
    found, at = [], 0
    while len(records) - at >= 61:
        base, length = struct.unpack_from(">qi", records, at)
        if len(records) - at < length + 12:
            break
        last_delta = struct.unpack_from(">i", records, at + 23)[0]
        found.append((base, base + last_delta, records[at : at + length + 12]))
        at += length + 12
    return found


def first_timestamp_ms(data):
    """Of the first record of a batch (baseTimestamp, bytes 27 to 35)."""
    return int.from_bytes(data[27:35], "big", signed=True)
