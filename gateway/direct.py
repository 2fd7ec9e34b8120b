"""`python -m gateway.direct 8082=tts:8082 …` forwards ports to the services behind the gateway.

The contract has the services themselves on 8081 and 8082. Their containers cannot publish these
ports and be more than one on a machine, so one container publishes them for all: each connection is
forwarded, byte for byte, to an address behind the name, in the order of the resolver.

This is our own since nothing in the image does it: Uvicorn forwards nothing, and socat or HAProxy
would be one more image to build and to keep. Nor can Compose publish a port for several containers,
and the gateway under these ports would answer for itself (`/healthz`, its keys' quotas).
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

import anyio
from anyio.abc import SocketStream

from common.logger import configure_logging, get_logger
from common.server.serve import complain
from common.settings import CommonSettings, SettingsError, load_settings
from gateway.app.tcp import accept, listen

log = get_logger(__name__)

CONNECT_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Forward:
    """Connections to `port` are forwarded to `target_port` of the name `host`."""

    port: int
    host: str
    target_port: int

    @classmethod
    def parse(cls, argument: str) -> Forward:
        """Read `PORT=HOST:PORT`. Raises `ValueError`."""
        port, _, target = argument.partition("=")
        host, _, target_port = target.rpartition(":")
        if not host:
            raise ValueError(f"{argument!r} is not PORT=HOST:PORT")
        return cls(int(port), host, int(target_port))

    async def carry(self, client: SocketStream) -> None:
        """Connect to the service and copy both ways until both directions have ended."""
        async with client:
            try:
                with anyio.fail_after(CONNECT_TIMEOUT_S):
                    service = await anyio.connect_tcp(self.host, self.target_port)
            except OSError as error:
                log.warning(
                    "direct.unreachable", host=self.host, port=self.target_port, error=str(error)
                )
                return
            async with service, anyio.create_task_group() as directions:
                # A side that has finished sending may still be answered.
                directions.start_soon(_copy, client, service)
                directions.start_soon(_copy, service, client)


async def forward_until(stop: anyio.Event, forwards: list[Forward], drain_s: float) -> None:
    """Forward connections until `stop`, then let those in flight end within `drain_s`."""
    async with anyio.create_task_group() as connections:
        async with anyio.create_task_group() as listeners:
            for forward in forwards:
                for listener in await listen("0.0.0.0", forward.port):  # noqa: S104 - a container's
                    listeners.start_soon(accept, listener, forward.carry, connections)
            log.info("direct.start", ports=sorted(forward.port for forward in forwards))
            await stop.wait()
            listeners.cancel_scope.cancel()
        connections.cancel_scope.deadline = anyio.current_time() + drain_s
    log.info("direct.stop")


async def _copy(source: SocketStream, target: SocketStream) -> None:
    """Copy until the end; a side that breaks closes both."""
    try:
        async for chunk in source:
            await target.send(chunk)
        await target.send_eof()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await target.aclose()
        await source.aclose()


async def _run(forwards: list[Forward], settings: CommonSettings) -> None:
    stop = anyio.Event()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forward_until, stop, forwards, settings.drain_seconds)
            async for _ in signals:
                stop.set()
                break


def main(arguments: list[str]) -> int:
    try:
        forwards = [Forward.parse(argument) for argument in arguments]
        settings = load_settings(CommonSettings)
    except (ValueError, SettingsError) as error:
        complain(str(error))
        return 2
    configure_logging("direct", settings)
    anyio.run(_run, forwards, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
