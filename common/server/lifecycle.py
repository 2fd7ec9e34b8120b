"""From start to leaving: loading, ready, draining.

Leaving is a story in five steps. (1) SIGTERM or SIGINT comes; Uvicorn's own handler would close
every socket now, so this module takes the signal before it. (2) The service is no longer ready and
refuses new work with `draining`. (3) Sessions are told. (4) Work under way is given `DRAIN_SECONDS`
to finish. (5) Uvicorn gets its signal and closes what is left. A second signal skips the wait.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

from common.errors import Draining, Loading
from common.logger import get_logger

log = get_logger(__name__)

State = Literal["loading", "ready", "draining", "failed"]
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_SIGNAL_S = 1.0
"""Ctrl-C reaches a child from the terminal and once more from the process manager: that is one."""


class Lifecycle:
    """Whether this process may take work, and how much it has under way."""

    def __init__(self, *, drain_seconds: float) -> None:
        self.state: State = "loading"
        self.reason = "starting"
        self.draining = asyncio.Event()
        self._drain_seconds = drain_seconds
        self._deadline = 0.0
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._leaving: asyncio.Task[None] | None = None
        self._leaving_since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def in_flight(self) -> int:
        """How many pieces of work would be waited for."""
        return self._in_flight

    @property
    def drain_remaining_s(self) -> float:
        """While draining: how long the work under way has yet."""
        return max(0.0, self._deadline - time.monotonic())

    def loading(self, what: str) -> None:
        self.state, self.reason = "loading", what

    def ready(self) -> None:
        if self.state == "loading":
            self.state, self.reason = "ready", ""

    def fail(self, reason: str) -> None:
        """The service can never become ready: leave, and let the exit status say so."""
        self.state, self.reason = "failed", reason
        self._hand_on(signal.SIGTERM)

    def check(self) -> None:
        """Raise `Loading` or `Draining` unless new work may begin."""
        if self.state == "draining":
            raise Draining("This server is shutting down; try another or try again shortly.")
        if self.state != "ready":
            raise Loading(f"This server is not ready yet: {self.reason}.")

    @contextmanager
    def work(self) -> Iterator[None]:
        """Mark work that is worth waiting for when leaving. Raises as `check` does."""
        self.check()
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()

    async def drain(self) -> None:
        """Refuse new work and wait for what is under way, `DRAIN_SECONDS` at most."""
        self.state, self.reason = "draining", "shutting down"
        self._deadline = time.monotonic() + self._drain_seconds
        self.draining.set()
        started = time.perf_counter()
        log.info("drain.begin", in_flight=self._in_flight, deadline_s=self._drain_seconds)
        try:
            await asyncio.wait_for(self._idle.wait(), self._drain_seconds)
        except asyncio.TimeoutError:
            log.warning("drain.deadline", in_flight=self._in_flight)
        log.info("drain.end", waited_ms=round((time.perf_counter() - started) * 1000))

    @contextmanager
    def take_signals(self) -> Iterator[None]:
        """Stand before the server's own signal handlers while the application runs.

        Outside the main thread, where there are no signals, this does nothing.
        """
        loop = asyncio.get_running_loop()
        try:
            for sig in SIGNALS:
                self._before[sig] = signal.getsignal(sig)
                loop.add_signal_handler(sig, self._on_signal, sig)
        except (ValueError, RuntimeError, NotImplementedError):
            self._before.clear()
            yield
            return
        try:
            yield
        finally:
            for sig, handler in self._before.items():
                loop.remove_signal_handler(sig)
                signal.signal(sig, handler)
            self._before.clear()

    def _on_signal(self, sig: signal.Signals) -> None:
        if self._leaving is not None:
            if time.monotonic() - self._leaving_since < SAME_SIGNAL_S:
                return
            log.warning("drain.skipped", signal=sig.name)
            self._hand_on(sig)
            return

        async def leave() -> None:
            await self.drain()
            self._hand_on(sig)

        self._leaving_since = time.monotonic()
        self._leaving = asyncio.get_running_loop().create_task(leave())

    def _hand_on(self, sig: signal.Signals) -> None:
        handler: Callable[[int, FrameType | None], Any] | int | None = self._before.get(sig)
        if callable(handler):
            handler(sig, None)
