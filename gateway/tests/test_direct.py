"""Forwarding of ports to the services behind the gateway."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
import pytest

from gateway.direct import Forward, forward_until
from gateway.tests.misbehaving import free_port, respond, upstream

DRAIN_S = 5


class Forwarding(NamedTuple):
    port: int
    stop: anyio.Event


@asynccontextmanager
async def forwarding(target_port: int, host: str = "localhost") -> AsyncIterator[Forwarding]:
    """Forwards a free port; at the end, connections are waited for."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            at = Forwarding(free_port(), anyio.Event())
            forward = Forward(at.port, host, target_port)
            tasks.start_soon(forward_until, at.stop, [forward], DRAIN_S)
            yield at
            at.stop.set()


async def until_listening(port: int, expected: bool) -> None:
    """Return when the port takes connections, or takes none any more."""
    listens = not expected
    while listens is not expected:
        await anyio.sleep(0.01)
        try:
            stream = await anyio.connect_tcp("127.0.0.1", port)
        except OSError:
            listens = False
        else:
            await stream.aclose()
            listens = True


async def ask(port: int) -> bytes:
    """Send a request, and return everything that comes up to the end of the connection."""
    await until_listening(port, True)
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET / HTTP/1.1\r\n\r\n")
        return b"".join([chunk async for chunk in stream])


def run(work: Callable[[], Awaitable[bytes]]) -> bytes:
    return anyio.run(work)


def test_bytes_are_carried_both_ways_until_the_service_ends_them() -> None:
    async def carried() -> bytes:
        async with forwarding(service) as at:
            return await ask(at.port)

    with upstream(respond("200 OK", b"x" * 300_000)) as url:
        service = int(url.rsplit(":", 1)[1])
        answer = run(carried)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n" + b"x" * 300_000)


def test_a_service_that_is_away_ends_the_connection() -> None:
    async def carried() -> bytes:
        async with forwarding(free_port(), "127.0.0.1") as at:
            return await ask(at.port)

    assert run(carried) == b""


def test_connections_in_flight_are_finished_when_it_stops() -> None:
    answers: list[bytes] = []

    async def collect(port: int) -> None:
        answers.append(await ask(port))

    def request_of(service: socket.socket) -> socket.socket:
        """The connection that sends a request, after those that only look whether it listens."""
        while True:
            connection, _ = service.accept()
            if connection.recv(100):
                return connection
            connection.close()

    async def carried() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as service:
            async with (
                anyio.create_task_group() as tasks,
                forwarding(service.getsockname()[1], "127.0.0.1") as at,
            ):
                tasks.start_soon(collect, at.port)
                connection = await anyio.to_thread.run_sync(request_of, service)
                at.stop.set()
                await until_listening(at.port, False)
                assert answers == []
                with connection:
                    connection.sendall(b"at last")
        return answers[0]

    assert run(carried) == b"at last"


def test_an_argument_is_port_host_and_port() -> None:
    assert Forward.parse("8082=tts:8082") == Forward(8082, "tts", 8082)


@pytest.mark.parametrize("argument", ["8082", "8082=tts", "x=tts:8082", "8082=tts:x"])
def test_any_other_argument_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Forward.parse(argument)
