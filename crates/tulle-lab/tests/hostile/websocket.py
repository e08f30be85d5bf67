"""WebSocket peers of an implementation that is not ours (PyPI websockets).

server: listens on a free port and prints it; echoes messages, closes as `/close-CODE` says, drops
the connection at `/drop`.
client HOST:PORT: plays its cases through the proxy and prints `ok NAME` for each.
"""

import asyncio
import hashlib
import os
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

MESSAGE = 16 * 1024 * 1024
# Noise grows a little when it is compressed.
MOST = MESSAGE + 1024 * 1024


async def echo(peer):
    path = peer.request.path
    if path.startswith("/close-"):
        await peer.close(int(path[7:]), "as asked")
        return
    if path == "/drop":
        await peer.recv()
        peer.transport.abort()
        return
    async for message in peer:
        await peer.send(message)


async def server():
    async with serve(echo, "127.0.0.1", 0, max_size=MOST, ping_interval=None) as listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


class Cases:
    def __init__(self, address):
        self.address = address

    def to(self, path):
        return connect(f"ws://{self.address}{path}", max_size=MOST, ping_interval=None)

    async def messages(self):
        async with self.to("/echo") as peer:
            for text in ["", "x", "h\u00e9llo \u2713", "y" * 125, "y" * 126, "y" * 65535, "y" * 65536]:
                await peer.send(text)
                assert await peer.recv() == text
            for data in [b"", bytes(range(256))]:
                await peer.send(data)
                assert await peer.recv() == data

    async def large(self):
        """16 MiB of noise, which no compression shortens, both ways."""
        async with self.to("/echo") as peer:
            for _ in range(2):
                data = os.urandom(MESSAGE)
                await peer.send(data)
                back = await peer.recv()
                assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()

    async def fragments(self):
        async with self.to("/echo") as peer:
            await peer.send(["a", "", "b" * 70000, "c"])
            assert await peer.recv() == "a" + "b" * 70000 + "c"

    async def pings(self):
        async with self.to("/echo") as peer:
            for payload in [b"", b"x" * 125]:
                await asyncio.wait_for(await peer.ping(payload), 10)
            await peer.send("after")
            assert await peer.recv() == "after"

    async def close_by_client(self):
        peer = await self.to("/echo")
        await peer.close(4001, "done here")
        assert (peer.close_code, peer.close_reason) == (4001, "done here")

    async def close_by_server(self):
        for code in [1000, 1001, 1011, 4999]:
            peer = await self.to(f"/close-{code}")
            try:
                await peer.recv()
                raise AssertionError("a message came")
            except (ConnectionClosedOK, ConnectionClosedError) as closed:
                assert closed.rcvd.code == code and closed.rcvd.reason == "as asked"

    async def drop_is_no_close(self):
        peer = await self.to("/drop")
        await peer.send("go")
        try:
            await peer.recv()
            raise AssertionError("a message came")
        except ConnectionClosedError as closed:
            assert closed.rcvd is None, "a dropped connection must not look closed"

    async def cut_frames(self):
        """Every byte in a packet of its own, from the handshake to the close."""
        host, port = self.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.transport.get_extra_info("socket").setsockopt(6, 1, 1)
        shake = (
            "GET /echo HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        mask = bytes([1, 2, 3, 4])
        masked = lambda text: mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text))
        text = bytes([0x81, 0x85]) + masked(b"hello")
        ping = bytes([0x89, 0x81]) + masked(b"p")
        close = bytes([0x88, 0x82]) + masked((1000).to_bytes(2, "big"))
        for byte in shake.encode():
            writer.write(bytes([byte]))
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        answers = [(text, b"\x81\x05hello"), (ping, b"\x8a\x01p"), (close, b"\x88\x02\x03\xe8")]
        for frame, answer in answers:
            for byte in frame:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            back = await reader.readexactly(len(answer))
            assert back == answer, back
        assert await reader.read(-1) == b""
        writer.close()

    async def many(self):
        async def one(number):
            async with self.to("/echo") as peer:
                for turn in range(20):
                    await peer.send(f"{number} {turn}")
                    assert await peer.recv() == f"{number} {turn}"

        await asyncio.gather(*(one(number) for number in range(50)))


async def client(address):
    cases = Cases(address)
    names = [name for name in vars(Cases) if not name.startswith("_") and name != "to"]
    for name in names:
        await asyncio.wait_for(getattr(cases, name)(), 60)
        print("ok", name, flush=True)


asyncio.run(server() if sys.argv[1] == "server" else client(sys.argv[2]))
