"""Limits each key in its requests per minute, and in its requests and sessions in flight."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import RateLimited
from common.logger import get_logger
from common.server.authentication import CALLER
from common.server.error_boundary import answer_error

if TYPE_CHECKING:
    from limits import RateLimitItemPerMinute

log = get_logger(__name__)


class Quota:
    """The limits are the same for every key; 0 is no limit. Belongs to the event loop.

    The minute is a moving window (https://limits.readthedocs.io/en/stable/strategies.html).
    """

    def __init__(self, *, per_minute: int, at_a_time: int) -> None:
        self._at_a_time = at_a_time
        self._in_flight: Counter[str] = Counter()
        self._rate: RateLimitItemPerMinute | None = None
        if per_minute:
            # Only here: importing it takes a fifth of the gateway's start.
            from limits import RateLimitItemPerMinute
            from limits.storage import MemoryStorage
            from limits.strategies import MovingWindowRateLimiter

            self._rate = RateLimitItemPerMinute(per_minute)
            self._window = MovingWindowRateLimiter(MemoryStorage())

    @contextmanager
    def used_by(self, caller: str) -> Iterator[None]:
        """Count one request or session of `caller` while the block runs. Raises `RateLimited`."""
        if self._at_a_time and self._in_flight[caller] >= self._at_a_time:
            raise RateLimited(
                f"This key already has {self._at_a_time} requests and sessions in flight, which is "
                "as many as it may have.",
                retry_after_s=1,
            )
        if self._rate and not self._window.hit(self._rate, caller):
            free_at = self._window.get_window_stats(self._rate, caller).reset_time
            raise RateLimited(
                f"This key has used its {self._rate.amount} requests a minute.",
                retry_after_s=max(1, math.ceil(free_at - time.time())),
            )
        self._in_flight[caller] += 1
        try:
            yield
        finally:
            self._in_flight[caller] -= 1


class QuotaMiddleware:
    """Refuses requests and upgrades over the caller's quota with 429."""

    def __init__(self, app: ASGIApp, *, quota: Quota) -> None:
        self.app = app
        self._quota = quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope.get(CALLER)
        if caller is None:
            await self.app(scope, receive, send)
            return
        with ExitStack() as used:
            try:
                used.enter_context(self._quota.used_by(caller))
            except RateLimited as error:
                log.info("request.refused", code=error.code, status=error.http_status)
                await answer_error(error, scope, receive, send)
                return
            await self.app(scope, receive, send)
