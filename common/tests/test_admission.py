"""Slots, a bounded queue, and a refusal beyond them."""

import asyncio

import pytest

from common.errors import Busy
from common.server.admission import Admission


def test_beyond_slots_and_queue_a_request_is_refused_at_once() -> None:
    async def scenario() -> None:
        admission = Admission(slots=1, queue=1, retry_after_s=7)
        leave = asyncio.Event()

        async def hold() -> None:
            async with admission.slot():
                await leave.wait()

        served, waiting = asyncio.create_task(hold()), asyncio.create_task(hold())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (admission.serving, admission.waiting) == (1, 1)
        with pytest.raises(Busy) as refusal:
            admission.check()
        assert refusal.value.retry_after_s == 7
        with pytest.raises(Busy):
            async with admission.slot():
                pytest.fail("must not be admitted")
        leave.set()
        await asyncio.gather(served, waiting)
        admission.check()
        assert (admission.serving, admission.waiting) == (0, 0)

    asyncio.run(scenario())


def test_one_that_gives_up_waiting_frees_its_place() -> None:
    async def scenario() -> None:
        admission = Admission(slots=1, queue=1)
        async with admission.slot():

            async def wait() -> None:
                async with admission.slot():
                    pytest.fail("must not be admitted")

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert admission.waiting == 0
            admission.check()
        async with admission.slot() as queued_ms:
            assert queued_ms < 1000

    asyncio.run(scenario())
