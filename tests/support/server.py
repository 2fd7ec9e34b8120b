"""Serve an app of this fleet from a thread, on a free port, exactly as it is served for real."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from common.serve import bind, uvicorn_config


@dataclass(frozen=True)
class Served:
    """Where the app is."""

    app: FastAPI
    port: int
    host: str = "127.0.0.1"

    @property
    def http(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://{self.host}:{self.port}"


@contextmanager
def served(
    app: FastAPI, *, ready: bool = True, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Served]:
    """Yields once `/readyz` is 200 (or, with `ready=False`, once `/healthz` is)."""
    # A service sends all logs of its process its own way; here they go on to be pytest's.
    handlers = logging.getLogger().handlers[:]
    listener = bind(host, port)
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until_ok(f"http://{host}:{port}/{'readyz' if ready else 'healthz'}")
        yield Served(app, port, host)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"
        logging.getLogger().handlers = handlers


def wait_until_ok(url: str, timeout_s: float = 30.0) -> None:
    """Ask until the answer is 200."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"{url} was not OK after {timeout_s} s"
        time.sleep(0.01)
