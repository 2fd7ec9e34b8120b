"""Loading, ready, draining."""

import asyncio

import pytest

from common.errors import Draining, Loading
from common.server.lifecycle import Lifecycle


def test_nothing_begins_before_the_model_is_ready() -> None:
    lifecycle = Lifecycle(drain_seconds=1)
    lifecycle.loading("loading the voice")
    with pytest.raises(Loading, match="loading the voice"):
        lifecycle.check()
    lifecycle.ready()
    lifecycle.check()


def test_draining_waits_for_work_under_way_and_refuses_more() -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle(drain_seconds=30)
        lifecycle.ready()
        with lifecycle.work():
            draining = asyncio.create_task(lifecycle.drain())
            await asyncio.sleep(0.01)
            assert not draining.done()
            assert lifecycle.draining.is_set()
            with pytest.raises(Draining), lifecycle.work():
                pytest.fail("must not begin")
        await asyncio.wait_for(draining, 1)

    asyncio.run(scenario())


def test_draining_ends_at_its_deadline() -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle(drain_seconds=0.01)
        lifecycle.ready()
        with lifecycle.work():
            await asyncio.wait_for(lifecycle.drain(), 5)

    asyncio.run(scenario())


def test_a_model_that_comes_after_leaving_began_changes_nothing() -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle(drain_seconds=0)
        await lifecycle.drain()
        lifecycle.ready()
        assert lifecycle.state == "draining"

    asyncio.run(scenario())
