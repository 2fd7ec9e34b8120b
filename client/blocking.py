"""The client for programs without an event loop, such as the ones beside this file.

    with background_loop() as loop, loop.within(SpeechClient()) as client:
        for audio in loop.each(client.speak("Hello world")):
            ...
        transcript = loop.call(client.transcribe, pcm)

The event loop runs in a thread of its own, so Ctrl-C reaches the program itself, as it expects.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")
P = ParamSpec("P")


class Loop:
    """Waits for what an event loop does."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal

    def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises."""
        result: T = self._portal.call(partial(function, *args, **kwargs))
        return result

    def each(self, stream: AsyncIterable[T]) -> Iterator[T]:
        """What iterating `stream` gives, as it comes."""
        iterator = aiter(stream)

        async def advance() -> tuple[T] | None:
            async for item in iterator:
                return (item,)
            return None

        while (item := self._portal.call(advance)) is not None:
            yield item[0]

    def within(self, manager: AbstractAsyncContextManager[T]) -> AbstractContextManager[T]:
        """`manager` for a plain `with`."""
        return self._portal.wrap_async_context_manager(manager)


@contextmanager
def background_loop() -> Iterator[Loop]:
    """An event loop that runs until this is left."""
    with start_blocking_portal() as portal:
        yield Loop(portal)


_READ_AHEAD = 2


async def from_thread(source: Iterable[T]) -> AsyncIterator[T]:
    """What `source` gives, for sources that wait, such as a pipe or a microphone.

    A thread of its own reads it, a little ahead. A source that waits for ever does not hold up the
    program's end.
    """
    loop = asyncio.get_running_loop()
    read: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(_READ_AHEAD)
    left = threading.Event()

    def hand_over(item: tuple[T] | Exception | None) -> None:
        if not left.is_set():
            loop.call_soon_threadsafe(read.put_nowait, item)

    def work() -> None:
        end: Exception | None = None
        try:
            for item in source:
                hand_over((item,))
                room.acquire()
                if left.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            end = error
        with suppress(RuntimeError):  # the loop has ended
            hand_over(end)

    threading.Thread(target=work, daemon=True, name="source").start()
    try:
        while (item := await read.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item[0]
            room.release()
    finally:
        left.set()
        room.release()
