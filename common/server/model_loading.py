"""A model that is loaded while the service already answers its probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from common.logger import get_logger
from common.server.lifecycle import Lifecycle
from common.settings import SettingsError

log = get_logger(__name__)

M = TypeVar("M")


@asynccontextmanager
async def model_loaded_in_background(
    lifecycle: Lifecycle,
    name: str,
    *,
    load: Callable[[], M],
    use: Callable[[M], None],
    stop: Callable[[], Awaitable[None]],
) -> AsyncIterator[None]:
    """Run `load` in a thread, hand its model to `use`, and only then be ready; `stop` at the end.

    A model that cannot be loaded ends the service, which could never become ready. If `load` raises
    `SettingsError` (there is no such model, or it is not here), its sentence is all that is logged.
    """

    async def start() -> None:
        started = time.perf_counter()
        lifecycle.loading(f"loading {name}")
        try:
            use(await asyncio.to_thread(load))
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

    loading = asyncio.create_task(start())
    try:
        yield
    finally:
        await loading
        await stop()
