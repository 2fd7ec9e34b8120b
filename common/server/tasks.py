"""Tasks that live and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_first(*works: Coroutine[Any, Any, object]) -> None:
    """Run all; when the first returns or raises, cancel the others and do as it did.

    Of several that end together, what is named first here counts.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        # What the others raise meanwhile, and a second one that is done, has no reader any more.
        await asyncio.gather(*tasks, return_exceptions=True)
