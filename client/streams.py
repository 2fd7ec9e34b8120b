"""What goes in and comes out while the server works: iterators, their writers, their tasks."""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from typing_extensions import Self

from client.connection import Connection
from client.errors import ClientError

T = TypeVar("T")


class IteratedOnce(ABC, Generic[T]):
    """A stream that is iterated once, and whose work on the server stops when it is left.

        async with client.speak(text) as utterance:
            async for audio in utterance:
                ...

    `break` leaves it, and so does whatever is raised. Without `async with`, it is left as soon as
    the iterator is forgotten, which for a plain `async for` is when the loop ends.

    Derived classes say in `_iterate` what it gives, and clean up there.
    """

    _iterator: weakref.ref[AsyncGenerator[T, None]] | None = None

    @abstractmethod
    def _iterate(self) -> AsyncGenerator[T, None]: ...

    def __aiter__(self) -> AsyncGenerator[T, None]:
        if self._iterator is not None:
            raise RuntimeError("This can be iterated only once.")
        iterator = self._iterate()
        # Not held here: it ends when whoever iterates forgets it.
        self._iterator = weakref.ref(iterator)
        return iterator

    async def aclose(self) -> None:
        """Leave the iteration."""
        iterator = self._iterator() if self._iterator else None
        if iterator is not None:
            await iterator.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()


class BackgroundTask:
    """Work in the task group of the client. Whoever starts it stops it."""

    def __init__(self, tasks: TaskGroup, work: Callable[[], Awaitable[None]]) -> None:
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        tasks.start_soon(self._run, work)

    def cancel(self) -> None:
        self._scope.cancel()

    async def stop(self) -> None:
        """Cancel the work and wait until it has ended, also when the caller is cancelled."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await work()
        finally:
            self._ended.set()


class Sending(BackgroundTask):
    """Sends a source while the answers to it are received: text to be spoken, audio to be heard.

    What the source raises closes the connection, and then comes out of `receive`. `keep_alive` runs
    as long as the source is being sent.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        connection: Connection,
        send: Callable[[], Awaitable[None]],
        *,
        keep_alive: Callable[[], Awaitable[None]] = anyio.sleep_forever,
    ) -> None:
        self._connection = connection
        self._send = send
        self._keep_alive = keep_alive
        self._raised: Exception | None = None
        super().__init__(tasks, self._send_and_watch)

    async def receive(self, timeout_s: float | None) -> dict[str, Any] | bytes:
        """Receive as `Connection.receive` does; also raise what the source raised."""
        try:
            return await self._connection.receive(timeout_s)
        except ClientError:
            if self._raised is not None:
                raise self._raised from None
            raise

    async def _send_and_watch(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._connection.watch)
            keeping_alive = BackgroundTask(tasks, self._keep_alive)
            try:
                await self._send()
            except ClientError:
                return  # whoever receives learns how the connection ended
            except Exception as error:  # noqa: BLE001 - raised by `receive`
                self._raised = error
                await self._connection.close()
            finally:
                keeping_alive.cancel()


async def each(source: AsyncIterable[T] | Iterable[T]) -> AsyncIterator[T]:
    """Iterate either kind. A plain iterable must not wait: the event loop would wait, too."""
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


class TextBuffer:
    """Text as it is written: read once from its writer, and from the beginning by each reader.

    An utterance that is asked for again, because its first server went away, is sent again from
    here: what wrote it, a language model for example, can only be read once.
    """

    def __init__(self, tasks: TaskGroup, text: AsyncIterable[str] | Iterable[str]) -> None:
        self._text = text
        self._written: list[str] = []
        self._raised: Exception | None = None
        self._grown = anyio.Event()
        self._ended_at: float | None = None
        self._reading = BackgroundTask(tasks, self._read)

    async def stop(self) -> None:
        """Read no more from the writer."""
        await self._reading.stop()

    def ended_for_s(self) -> float:
        """Return how long ago the writer ended; 0 while it writes."""
        return 0.0 if self._ended_at is None else time.monotonic() - self._ended_at

    async def __aiter__(self) -> AsyncIterator[str]:
        """Iterate from the beginning. Raises what the writer raised."""
        count = 0
        while True:
            while count < len(self._written):
                count += 1
                yield self._written[count - 1]
            if self._ended_at is not None:
                if self._raised is not None:
                    raise self._raised
                return
            await self._grown.wait()

    async def _read(self) -> None:
        try:
            async for text in each(self._text):
                self._written.append(text)
                self._notify()
        except Exception as error:  # noqa: BLE001 - raised by each reader
            self._raised = error
        finally:
            self._ended_at = time.monotonic()
            self._notify()

    def _notify(self) -> None:
        self._grown.set()
        self._grown = anyio.Event()
