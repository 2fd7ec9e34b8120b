"""Loading, ready, draining."""

import anyio
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


def test_draining_waits_for_work_in_flight_and_refuses_more() -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle(drain_seconds=30)
        lifecycle.ready()
        drained = anyio.Event()

        async def drain() -> None:
            await lifecycle.drain()
            drained.set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                with lifecycle.work():
                    tasks.start_soon(drain)
                    await anyio.wait_all_tasks_blocked()
                    assert not drained.is_set()
                    assert lifecycle.draining.is_set()
                    with pytest.raises(Draining), lifecycle.work():
                        pytest.fail("must not begin")
                await drained.wait()

    anyio.run(scenario)


def test_draining_ends_at_its_deadline() -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle(drain_seconds=0.01)
        lifecycle.ready()
        with lifecycle.work(), anyio.fail_after(5):
            await lifecycle.drain()

    anyio.run(scenario)


def test_a_model_that_is_loaded_after_draining_began_changes_nothing() -> None:
    async def scenario() -> None:
        lifecycle = Lifecycle(drain_seconds=0)
        await lifecycle.drain()
        lifecycle.ready()
        assert lifecycle.state == "draining"

    anyio.run(scenario)
