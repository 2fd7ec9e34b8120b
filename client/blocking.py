"""The client for programs without an event loop, such as the ones beside this file.

    with background_loop() as loop, loop.within(SpeechClient()) as client:
        for audio in loop.each(client.speak("Hello world")):
            ...
        transcript = loop.call(client.transcribe, pcm)

The event loop runs in a thread of its own, so Ctrl-C reaches the program itself, as it expects.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
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
