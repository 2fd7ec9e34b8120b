"""The ports that lead straight to the services behind."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.direct import Ways, parse
from gateway.tests.misbehaving import closed_port, respond, upstream


def free_port() -> int:
    return int(closed_port().rsplit(":", 1)[1])


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_bytes_are_carried_both_ways_until_the_service_ends_them() -> None:
    async def carried(target_port: int) -> bytes:
        ways, port = Ways(), free_port()
        server = await ways.listen(port, "localhost", target_port)
        async with server:
            answer = await asyncio.wait_for(ask(port), 5)
            await ways.leave(5)
            return answer

    with upstream(respond("200 OK", b"x" * 300_000)) as url:
        answer = asyncio.run(carried(int(url.rsplit(":", 1)[1])))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n" + b"x" * 300_000)


def test_a_service_that_is_away_ends_the_connection() -> None:
    async def carried() -> bytes:
        ways, port = Ways(), free_port()
        async with await ways.listen(port, "127.0.0.1", free_port()):
            return await asyncio.wait_for(ask(port), 5)

    assert asyncio.run(carried()) == b""


def test_what_is_under_way_is_waited_for_when_leaving() -> None:
    async def left() -> bytes:
        ways, port = Ways(), free_port()
        with socket.create_server(("127.0.0.1", 0)) as service:
            async with await ways.listen(port, "127.0.0.1", service.getsockname()[1]) as server:
                asking = asyncio.create_task(ask(port))
                behind, _ = await asyncio.to_thread(service.accept)
                server.close()
                leaving = asyncio.create_task(ways.leave(5))
                await asyncio.sleep(0.05)
                assert not leaving.done()
                with behind:
                    behind.sendall(b"at last")
                await leaving
                return await asyncio.wait_for(asking, 5)

    assert asyncio.run(left()) == b"at last"


def test_a_way_is_port_host_and_port() -> None:
    assert parse("8082=tts:8082") == (8082, ("tts", 8082))


@pytest.mark.parametrize("way", ["8082", "8082=tts", "x=tts:8082", "8082=tts:x"])
def test_a_way_that_is_none_is_refused(way: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(way)
