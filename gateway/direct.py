"""`python -m gateway.direct 8082=tts:8082 …`: ports that lead straight to the services behind.

The contract has the services themselves on 8081 and 8082. Their containers cannot publish these
ports and be more than one at a time, so this does: each connection is carried, byte for byte, to an
address behind the name, tried in the order in which the resolver gives them.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from common.logger import configure_logging, get_logger
from common.server.serve import complain
from common.settings import CommonSettings, SettingsError, load_settings

log = get_logger(__name__)

CONNECT_TIMEOUT_S = 2.0
CHUNK_BYTES = 65536


class Ways:
    """The connections under way: those are waited for when leaving."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, port: int, host: str, target_port: int) -> asyncio.Server:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await _carry(reader, writer, host, target_port)

        return await asyncio.start_server(carry, "0.0.0.0", port)  # noqa: S104 - of a container

    async def leave(self, deadline_s: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_s)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    try:
        there_reader, there_writer = await _connect(host, port)
    except OSError as error:
        log.warning("direct.away", host=host, port=port, error=str(error))
        writer.close()
        return
    try:
        # A side that has finished sending may still be answered: each direction ends by itself.
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
    finally:
        for end in (writer, there_writer):
            end.close()


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first address behind the name that takes one. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=1)
    last = OSError(f"{host} has no address")
    for _, _, _, _, address in found:
        try:
            return await asyncio.wait_for(
                asyncio.open_connection(str(address[0]), port), CONNECT_TIMEOUT_S
            )
        except asyncio.TimeoutError:
            last = OSError(f"{address[0]} does not answer")
        except OSError as error:
            last = error
    raise last


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        # One side is gone: so is the way.
        writer.transport.abort()


async def _run(ways: dict[int, tuple[str, int]], settings: CommonSettings) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, told.set)
    in_flight = Ways()
    servers = [await in_flight.listen(port, *target) for port, target in ways.items()]
    log.info("direct.start", ports=sorted(ways))
    await told.wait()
    for server in servers:
        server.close()
    await in_flight.leave(settings.drain_seconds)
    log.info("direct.stop")


def parse(way: str) -> tuple[int, tuple[str, int]]:
    """`PORT=HOST:PORT`. Raises `ValueError`."""
    port, _, target = way.partition("=")
    host, _, target_port = target.rpartition(":")
    if not host:
        raise ValueError(f"{way!r} is not PORT=HOST:PORT")
    return int(port), (host, int(target_port))


def main(arguments: list[str]) -> int:
    try:
        ways = dict(parse(way) for way in arguments)
        settings = load_settings(CommonSettings)
    except (ValueError, SettingsError) as error:
        complain(str(error))
        return 2
    configure_logging("direct", settings)
    asyncio.run(_run(ways, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
