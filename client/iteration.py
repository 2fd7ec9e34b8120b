"""What is iterated once, and stops its work on the server when it is left.

    async with client.speak(text) as utterance:
        async for audio in utterance:
            ...

`break` leaves it too, and so does whatever is raised. Without `async with`, it is left as soon as
the iterator is forgotten, which for a plain `async for` is when the loop ends.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

from typing_extensions import Self

T = TypeVar("T")


class IteratedOnce(ABC, Generic[T]):
    """Derived classes say in `_iterate` what it gives, and clean up there."""

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
