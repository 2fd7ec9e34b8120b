"""Runs tasks that end together."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import anyio


async def until_first(*works: Coroutine[Any, Any, object]) -> None:
    """Run `works` until the first returns or raises, cancel the others, and do as it did.

    Of several that end together, the one that is named first here counts. What the others raise
    while they are cancelled is dropped.
    """
    ended: dict[int, Exception | None] = {}
    first = anyio.Event()

    async def run(place: int, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - raised below; the group would wrap it
            ended.setdefault(place, error)
        else:
            ended.setdefault(place, None)
        finally:
            first.set()

    async with anyio.create_task_group() as tasks:
        for place, work in enumerate(works):
            tasks.start_soon(run, place, work)
        await first.wait()
        counts = min(ended, default=None)
        tasks.cancel_scope.cancel()
    error = None if counts is None else ended[counts]
    if error is not None:
        raise error
