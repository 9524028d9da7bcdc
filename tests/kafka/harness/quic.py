"""A peer of the nodes that is none of ours: QUIC with whatever certificate, and a hello by hand (`transport/src/wire`)."""

import asyncio
import socket
import ssl
import struct

from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated

ALPN = "isobar/1"
STREAM_HELLO = 0
VERSION, CONTROL = 1, 1
WAIT_SECONDS = 15


class Peer(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.terminated = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        super().quic_event_received(event)
        if isinstance(event, ConnectionTerminated) and not self.terminated.done():
            self.terminated.set_result(event.reason_phrase)


def _varint(number):
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


def hello(node, cluster="tests", lane=CONTROL):
    """Protobuf: versions, cluster, node, lane, incarnation."""
    numbers = {1: VERSION, 2: VERSION, 5: node, 6: lane}
    body = b"".join(bytes([tag << 3]) + _varint(number) for tag, number in numbers.items())
    body += bytes([3 << 3 | 2]) + _varint(len(cluster)) + cluster.encode() + bytes([7 << 3 | 1]) + struct.pack("<Q", 7)
    return bytes([STREAM_HELLO]) + struct.pack(">H", len(body)) + body


def knock(address, papers=None, says=None):
    """Connects, with a certificate and its key or none, and begins with these bytes. Returns `(answered, why)`: whether
    anything came back, and why the other side has ended the connection; None if it has not."""
    return asyncio.run(_knock(address, papers, says))


async def _knock(address, papers, says):
    host, port = address.rsplit(":", 1)
    config = QuicConfiguration(is_client=True, alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
    if papers:
        config.load_cert_chain(*papers)
    try:
        async with connect(host, int(port), configuration=config, create_protocol=Peer) as peer:
            answered = b""
            if says is not None:
                reader, writer = await peer.create_stream()
                writer.write(says)
                answered = await _until(reader.read(2))
            why = await _until(asyncio.shield(peer.terminated), WAIT_SECONDS if not answered else 3)
            return bool(answered), why
    except ConnectionError as error:
        return False, str(error)


def begin_only(address, count):
    """So many first datagrams of handshakes that never go on, each from a port of its own."""
    host, port = address.rsplit(":", 1)
    for _ in range(count):
        client = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=[ALPN]))
        client.connect((host, int(port)), now=0.0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for datagram, _ in client.datagrams_to_send(now=0.0):
                out.sendto(datagram, (host, int(port)))


async def _until(what, seconds=WAIT_SECONDS):
    try:
        return await asyncio.wait_for(what, seconds)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return None
