"""Slots, a bounded queue, and a refusal beyond them."""

import anyio
import pytest

from common.errors import Busy
from common.server.admission import Admission


def test_beyond_slots_and_queue_a_request_is_refused_at_once() -> None:
    async def scenario() -> None:
        admission = Admission(slots=1, queue=1, retry_after_s=7)
        leave = anyio.Event()

        async def hold() -> None:
            async with admission.slot():
                await leave.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            tasks.start_soon(hold)
            await anyio.wait_all_tasks_blocked()
            assert (admission.serving, admission.waiting) == (1, 1)
            with pytest.raises(Busy) as refusal:
                admission.check()
            assert refusal.value.retry_after_s == 7
            with pytest.raises(Busy):
                async with admission.slot():
                    pytest.fail("must not be admitted")
            leave.set()
        admission.check()
        assert (admission.serving, admission.waiting) == (0, 0)

    anyio.run(scenario)


def test_one_that_gives_up_waiting_frees_its_place() -> None:
    async def scenario() -> None:
        admission = Admission(slots=1, queue=1)
        async with admission.slot():

            async def wait() -> None:
                async with admission.slot():
                    pytest.fail("must not be admitted")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                assert admission.waiting == 1
                tasks.cancel_scope.cancel()
            assert admission.waiting == 0
            admission.check()
        async with admission.slot() as queued_ms:
            assert queued_ms < 1000

    anyio.run(scenario)
