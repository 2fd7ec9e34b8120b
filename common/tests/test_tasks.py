"""Tasks that live together end together."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from common.server.tasks import until_first


async def wait(log: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        log.append("stopped")


async def fail(error: Exception) -> None:
    raise error


def test_the_first_that_returns_stops_the_others() -> None:
    log: list[str] = []

    async def done() -> None:
        log.append("done")

    asyncio.run(until_first(wait(log), done(), wait(log)))
    assert log == ["done", "stopped", "stopped"]


def test_the_first_that_fails_is_raised_when_the_others_have_stopped() -> None:
    log: list[str] = []
    with pytest.raises(KeyError, match="first"):
        asyncio.run(until_first(wait(log), fail(KeyError("first"))))
    assert log == ["stopped"]


def test_of_several_that_end_together_the_first_named_counts() -> None:
    for _ in range(10):  # a set of tasks has another order each time
        with pytest.raises(KeyError, match="first"):
            asyncio.run(until_first(*(fail(KeyError(n)) for n in ("first", "second", "third"))))


def test_what_others_raise_while_they_are_stopped_does_not_take_its_place() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("second")

    with pytest.raises(KeyError, match="first"):
        asyncio.run(until_first(stubborn(), fail(KeyError("first"))))


def test_being_cancelled_stops_all() -> None:
    log: list[str] = []

    async def cancelled() -> None:
        async def work() -> None:
            await until_first(wait(log), wait(log))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    anyio.run(cancelled)
    assert log == ["stopped", "stopped"]
