"""When a request is tried again: only if it has delivered nothing, and only if that may help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from client.errors import Lost, ServerAway, Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often a request is tried, and how long is waited in between; `attempts=1` is once."""

    attempts: int = 3
    longest_wait_s: float = 5.0
    """A server whose `Retry-After` is longer than this is not tried again."""

    async def __call__(self, request: Callable[[], Awaitable[T]]) -> T:
        """Return what `request` returns, or raise what it raises last.

        It must have delivered nothing when it raises. The waits are those that the server asks for
        (`Retry-After`), else random ones that grow
        (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
        """
        grown = wait_random_exponential(multiplier=0.2, max=self.longest_wait_s)

        def wait_s(state: RetryCallState) -> float:
            return max(_asked_for_s(_error_of(state)), grown(state))

        retrying = AsyncRetrying(
            retry=retry_if_exception(self._may_help),
            wait=wait_s,
            stop=stop_after_attempt(self.attempts),
            reraise=True,
        )

        # A coroutine function, by which the library knows what is to be awaited.
        async def attempt() -> T:
            return await request()

        return await retrying(attempt)

    def _may_help(self, error: BaseException) -> bool:
        again = isinstance(error, (Unavailable, Lost, ServerAway))
        return again and _asked_for_s(error) <= self.longest_wait_s


ONCE = Retry(attempts=1)


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked_for_s(error: BaseException | None) -> float:
    return (error.retry_after_s or 0.0) if isinstance(error, Unavailable) else 0.0
