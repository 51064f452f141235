"""A TCP proxy in front of Postgres that delays, cuts and swallows, and can lose the answer to a COMMIT."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from psycopg2.extensions import make_dsn

Direction = Literal["to server", "to client"]

PIECE_BYTES = 1 << 16
STOP_TIMEOUT_S = 10
HANG_MAX_S = 60
# A simple query "COMMIT" as libpq sends it, and the tag of the server's answer that says it is done.
COMMIT_SENT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
COMMIT_DONE = b"COMMIT\x00"
# <asm/socket.h>; one instruction of classic BPF: return 0, no byte of the packet is kept.
SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, on every connection alike.

    ``after_bytes`` in a ``direction`` the connection is ``cut``, or it ``hang``s: from then on the network swallows
    every packet, and for :data:`HANG_MAX_S` nobody is told. ``lost_commit`` numbers the COMMIT (from 1, over all
    connections) whose answer never arrives: the server has done it, then the connection is cut.
    """

    latency_s: float = 0.0
    after_bytes: int | None = None
    direction: Direction = "to client"
    then: Literal["cut", "hang"] = "cut"
    lost_commit: int | None = None


BLACK_HOLE = Fault(after_bytes=0, direction="to server", then="hang")


class _Struck(Exception):
    """The connection has met its fault."""


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to ``port``, until the ``with`` block ends.

    :ivar struck: set once a connection was cut or began to hang.
    :ivar executed: set once the server had done the COMMIT whose answer was lost.
    :ivar commits: COMMITs sent so far.
    :ivar passed: bytes forwarded a direction, on the connection that had the most.
    """

    def __init__(self, port: int, fault: Fault | None = None) -> None:
        self.fault = fault or Fault()
        self.struck = threading.Event()
        self.executed = threading.Event()
        self.commits = 0
        self.passed: Counter[Direction] = Counter()
        self.port = 0
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def dsn(self, dsn: str) -> str:
        """The same database as ``dsn``, through this proxy."""
        return make_dsn(dsn, host="127.0.0.1", port=self.port)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(STOP_TIMEOUT_S), "the proxy does not listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive(), "the proxy does not end"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        writers = [to_client]
        doomed = asyncio.Event()
        pumps: list[asyncio.Task[None]] = []
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(to_server)
            pumps = [
                asyncio.ensure_future(self._pump("to server", from_client, to_server, to_client, doomed)),
                asyncio.ensure_future(self._pump("to client", from_server, to_client, to_client, doomed)),
            ]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in done:
                pump.result()
            for writer in writers:
                writer.close()
        except (_Struck, OSError):
            for writer in writers:
                _reset(writer)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in writers:
                writer.transport.abort()

    async def _pump(
        self, direction: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter,
        to_client: asyncio.StreamWriter, doomed: asyncio.Event,
    ) -> None:  # fmt: skip
        passed = 0
        while piece := await source.read(PIECE_BYTES):
            await asyncio.sleep(self.fault.latency_s)
            if self.fault.after_bytes is not None and direction == self.fault.direction:
                room = self.fault.after_bytes - passed
                if len(piece) > room:
                    sink.write(piece[:room])
                    await sink.drain()
                    await self._strike(to_client)
            if direction == "to server" and COMMIT_SENT in piece:
                self.commits += 1
                if self.commits == self.fault.lost_commit:
                    doomed.set()
            if direction == "to client" and doomed.is_set():
                if COMMIT_DONE in piece:
                    self.executed.set()
                    self.struck.set()
                    raise _Struck
                continue
            sink.write(piece)
            await sink.drain()
            passed += len(piece)
            self.passed[direction] = max(self.passed[direction], passed)

    async def _strike(self, to_client: asyncio.StreamWriter) -> None:
        if self.fault.then == "hang":
            _swallow(to_client.get_extra_info("socket"))
            self.struck.set()
            # A client that would wait for ever fails its test instead of stopping it.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), HANG_MAX_S)
        self.struck.set()
        raise _Struck


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST: the peer's unread bytes are gone too."""
    with suppress(OSError):
        endpoint = writer.get_extra_info("socket")
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _swallow(endpoint: socket.socket) -> None:
    """From now on the kernel drops whatever comes in, keepalive probes too: to the peer, the network is gone."""
    program = ctypes.create_string_buffer(DROP_ALL, len(DROP_ALL))
    # The kernel copies the program while the call lasts.
    endpoint.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))
