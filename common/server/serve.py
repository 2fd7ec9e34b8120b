"""Runs a service: `python -m tts_service`, `python -m asr_service`, `python -m gateway`.

Uvicorn with the knobs that these services need: no compression for PCM, bounded messages, our own
logs, our own shutdown. Any other ASGI server can run `SERVICE.app.main:app` as well.

What a service is made of is no garbage. So the collector is off while it is imported, which makes
the start shorter, and does not look at it later: to look at all of it stops every stream for 0.1 s.
That is why this module imports so little by itself.

numpy's OpenBLAS has a thread for each core, and after each product they wait for the next by
spinning, for a tenth of a second, on the cores that recognize and speak. Here it has one, the
caller's own.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from common.settings import CommonSettings

_M_ARENA_MAX = -8
"""The constant of glibc's malloc.h."""
_ARENAS = 2


def complain(message: str) -> None:
    """Say on stderr, without a traceback, why the service cannot start."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - logging is not set up yet


def bind(host: str, port: int) -> socket.socket:
    """Return a socket at an address. Raises `OSError` if it is taken or not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def uvicorn_config(app: FastAPI) -> uvicorn.Config:
    """Return the configuration with which Uvicorn serves any app of the fleet."""
    import uvicorn

    settings: CommonSettings = app.state.settings
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=settings.max_message_bytes,
        # Who reads slowly, or sends faster than we listen, answers pings late: what was sent before
        # comes first. Sessions know by themselves who has gone (`IDLE_TIMEOUT_S`).
        ws_ping_timeout=None,
        timeout_graceful_shutdown=5,
    )


def share_freed_memory() -> None:
    """Have threads share the memory that they free; glibc keeps it for each of them, mostly unused.

    Other C libraries do not, and have no `mallopt`.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def serve(service: str, *, port_setting: str) -> int:
    """Serve `<service>.app.main:app` until a signal comes; returns the exit status.

    2: the settings do not fit. 1: the address is taken, or the service could not become ready.
    """
    share_freed_memory()
    gc.disable()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import uvicorn

    from common.server.lifecycle import SIGNALS
    from common.settings import SettingsError

    try:
        app = importlib.import_module(f"{service}.app.main").app
    except SettingsError as error:
        complain(f"{service} cannot start:\n{error}")
        return 2
    settings: CommonSettings = app.state.settings
    port: int = getattr(settings, port_setting)
    try:
        listener = bind(settings.host, port)
    except OSError as error:
        complain(
            f"{service} cannot listen on {settings.host}:{port}: {error.strerror}. Stop what uses "
            f"the port, or choose another with {port_setting.upper()}."
        )
        return 1
    # Uvicorn raises the signal again after it has shut down; by then we have left in order.
    for sig in SIGNALS:
        signal.signal(sig, lambda *_: None)
    gc.freeze()
    gc.enable()
    uvicorn.Server(uvicorn_config(app)).run(sockets=[listener])
    lifecycle = app.state.lifecycle
    if lifecycle.state == "failed":
        complain(f"{service} cannot start: {lifecycle.reason}")
        return 1
    return 0
