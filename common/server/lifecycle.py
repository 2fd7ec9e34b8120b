"""Takes a service from start to exit: loading, ready, draining.

Draining has five steps. (1) SIGTERM or SIGINT comes; Uvicorn's own handler would close every socket
now, so this module takes the signal before it. (2) The service is no longer ready and refuses new
work with `draining`. (3) Sessions are told. (4) Work in flight is given `DRAIN_SECONDS` to finish.
(5) Uvicorn gets its signal and closes what is left. A second signal skips the wait.
"""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Literal, TypeVar

import anyio
from anyio.abc import TaskGroup, TaskStatus

from common.errors import Draining, Loading
from common.logger import get_logger
from common.settings import SettingsError

log = get_logger(__name__)

M = TypeVar("M")
State = Literal["loading", "ready", "draining", "failed"]
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_SIGNAL_S = 1.0
"""Ctrl-C reaches a child from the terminal and once more from the process manager: that is one."""


class Lifecycle:
    """Knows whether this process may take work, and how much it has in flight."""

    def __init__(self, *, drain_seconds: float) -> None:
        self.state: State = "loading"
        self.reason = "starting"
        self.draining = anyio.Event()
        self._drain_seconds = drain_seconds
        self._deadline = 0.0
        self._in_flight = 0
        self._idle = anyio.Event()
        """Set when the last work ends while the service drains."""
        self._handlers: dict[signal.Signals, Any] = {}
        """The signal handlers that were installed before ours."""

    @property
    def in_flight(self) -> int:
        """How many pieces of work draining would wait for."""
        return self._in_flight

    @property
    def drain_remaining_s(self) -> float:
        """While draining: how long the work in flight has yet."""
        return max(0.0, self._deadline - time.monotonic())

    def loading(self, what: str) -> None:
        self.state, self.reason = "loading", what

    def ready(self) -> None:
        if self.state == "loading":
            self.state, self.reason = "ready", ""

    def fail(self, reason: str) -> None:
        """End the service, which can never become ready; its exit status says so."""
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
        """Count work that draining waits for. Raises as `check` does."""
        self.check()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if self.draining.is_set() and self._in_flight == 0:
                self._idle.set()

    async def drain(self) -> None:
        """Refuse new work and wait for what is in flight, `DRAIN_SECONDS` at most."""
        self.state, self.reason = "draining", "shutting down"
        self._deadline = time.monotonic() + self._drain_seconds
        self.draining.set()
        started = time.perf_counter()
        log.info("drain.begin", in_flight=self._in_flight, deadline_s=self._drain_seconds)
        if self._in_flight:
            with anyio.move_on_after(self._drain_seconds) as waiting:
                await self._idle.wait()
            if waiting.cancelled_caught:
                log.warning("drain.deadline", in_flight=self._in_flight)
        log.info("drain.end", waited_ms=round((time.perf_counter() - started) * 1000))

    @asynccontextmanager
    async def drain_on_signals(self) -> AsyncIterator[None]:
        """Stand before the server's own signal handlers while the application runs.

        Outside the main thread, where there are no signals, this does nothing.
        """
        if current_thread() is not main_thread():
            yield
            return
        self._handlers = {sig: signal.getsignal(sig) for sig in SIGNALS}
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(self._take_signals, tasks)
                yield
                tasks.cancel_scope.cancel()
        finally:
            for sig, handler in self._handlers.items():
                signal.signal(sig, handler)
            self._handlers = {}

    async def _take_signals(self, tasks: TaskGroup, *, task_status: TaskStatus[None]) -> None:
        first_at: float | None = None
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for sig in signals:
                if first_at is None:
                    first_at = time.monotonic()
                    tasks.start_soon(self._drain_and_exit, sig)
                elif time.monotonic() - first_at >= SAME_SIGNAL_S:
                    log.warning("drain.skipped", signal=sig.name)
                    self._hand_on(sig)

    async def _drain_and_exit(self, sig: signal.Signals) -> None:
        await self.drain()
        self._hand_on(sig)

    def _hand_on(self, sig: signal.Signals) -> None:
        handler: Callable[[int, FrameType | None], Any] | int | None = self._handlers.get(sig)
        if callable(handler):
            handler(sig, None)


@asynccontextmanager
async def model_loaded_in_background(
    lifecycle: Lifecycle,
    name: str,
    *,
    load: Callable[[], M],
    use: Callable[[M], None],
    stop: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """Load a model while the service already answers its probes; `stop` at the end.

    `load` runs in a thread; `use` takes its model, and only then is the service ready. A model that
    cannot be loaded ends the service, which could never become ready. If `load` raises
    `SettingsError` (there is no such model, or it is not here), its sentence is all that is logged.
    """

    async def start() -> None:
        started = time.perf_counter()
        lifecycle.loading(f"loading {name}")
        try:
            use(await anyio.to_thread.run_sync(load))
        except SettingsError as error:
            log.error("model.load_failed", model=name, error=str(error))
            lifecycle.fail(str(error))
            return
        except Exception as error:
            log.error("model.load_failed", model=name, exc_info=error)
            lifecycle.fail(f"{name} could not be loaded: {error}")
            return
        load_ms = round((time.perf_counter() - started) * 1000)
        log.info("model.ready", model=name, load_ms=load_ms)
        lifecycle.ready()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            yield
    finally:
        with anyio.CancelScope(shield=True):
            await stop()
