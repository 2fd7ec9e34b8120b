"""This module serves an app from a thread, on a free port, as it is served in production."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from common.server.serve import bind, uvicorn_config
from tests.support.wire import wait_for


@dataclass(frozen=True)
class Served:
    """A served app, and its address."""

    app: FastAPI
    port: int
    host: str = "127.0.0.1"
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def http(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://{self.host}:{self.port}"

    def leave(self) -> None:
        """Start draining, as a signal does, but keep serving; returns once it drains."""
        assert self.loop is not None
        lifecycle = self.app.state.lifecycle
        asyncio.run_coroutine_threadsafe(lifecycle.drain(), self.loop)
        wait_for(lifecycle.draining.is_set)


class _Server(uvicorn.Server):
    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)


@contextmanager
def served(
    app: FastAPI, *, ready: bool = True, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Served]:
    """Yields once `/readyz` is 200 (or, with `ready=False`, once `/healthz` is)."""
    # A service replaces the handlers of its process's logs; pytest's are restored afterwards.
    handlers = logging.getLogger().handlers[:]
    listener = bind(host, port)
    port = listener.getsockname()[1]
    server = _Server(uvicorn_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until_ok(f"http://{host}:{port}/{'readyz' if ready else 'healthz'}")
        yield Served(app, port, host, server.loop)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"
        logging.getLogger().handlers = handlers


def wait_until_ok(url: str, timeout_s: float = 30.0) -> None:
    """Wait until `url` answers 200."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"{url} was not OK after {timeout_s} s"
        time.sleep(0.01)
