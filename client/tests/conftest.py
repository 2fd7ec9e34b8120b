"""Servers that answer as a test tells them to, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

Handler = Callable[[ServerConnection], None]
OnUpgrade = Callable[[ServerConnection, Request], Response | None]
"""May answer the request for an upgrade itself."""
Answer = Callable[[ServerConnection, Request, Response], Response | None]
"""May change the answer to it."""

WsServer = Callable[..., str]
HttpServer = Callable[[ASGIApp], str]


@pytest.fixture
def ws_server() -> Iterator[WsServer]:
    """Start a WebSocket server that runs a handler for each connection; returns its address."""
    with ExitStack() as stack:

        def start(
            handler: Handler,
            *,
            on_upgrade: OnUpgrade | None = None,
            response: Answer | None = None,
            max_size: int = 2**20,
        ) -> str:
            server = stack.enter_context(
                serve(
                    handler,
                    "127.0.0.1",
                    0,
                    compression=None,
                    process_request=on_upgrade,
                    process_response=response,
                    max_size=max_size,
                )
            )
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws/tts"

        yield start


class _Announced(uvicorn.Server):
    """A server that says when it listens, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
def http_server() -> Iterator[HttpServer]:
    """Start an HTTP server around an ASGI app; returns its address."""
    with ExitStack() as stack:

        def start(app: ASGIApp) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
            server = _Announced(config)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})

            def stop() -> None:
                server.should_exit = True
                thread.join()

            thread.start()
            stack.callback(stop)
            assert server.listens.wait(10)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and which nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a test has its file written."""
    return tmp_path / "out.wav"
