"""The port on which Wyoming is spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.logger import get_logger
from gateway.app.catalogue import Catalogue
from gateway.app.fleet import Fleet
from gateway.app.wyoming.connection import Connection
from gateway.app.wyoming.wire import Peer

log = get_logger(__name__)

NO_KEYS = (
    "Wyoming knows no keys: everybody who can reach this port may use the fleet, whatever API_KEYS "
    "says."
)


@asynccontextmanager
async def serving(fleet: Fleet, catalogue: Catalogue) -> AsyncIterator[None]:
    """Serves while the block runs; then the connections that are left are cut.

    If the port cannot be had, the gateway leaves, and says why.
    """
    settings = fleet.settings
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        task.add_done_callback(connections.discard)
        peer = Peer(reader, writer, idle_s=settings.idle_timeout_s)
        try:
            await Connection(peer, fleet, catalogue).run()
        finally:
            if writer.transport.is_closing():
                writer.transport.abort()
            else:
                writer.close()

    try:
        server = await asyncio.start_server(serve, settings.host, settings.gateway_wyoming_port)
    except OSError as error:
        log.error("wyoming.cannot_listen", port=settings.gateway_wyoming_port, error=str(error))
        fleet.lifecycle.fail(f"GATEWAY_WYOMING_PORT cannot be listened on: {error}")
        yield
        return
    log.info("wyoming.start", port=settings.gateway_wyoming_port)
    if settings.keys:
        log.warning("wyoming.no_keys", port=settings.gateway_wyoming_port, meaning=NO_KEYS)
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        if connections:
            await asyncio.wait(connections)
