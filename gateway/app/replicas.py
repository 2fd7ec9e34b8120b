"""The replicas of one service: all addresses behind its name, and which of them to ask next.

Every `LOOK_EVERY_S` the name is resolved anew and each replica is asked whether it is ready. One
that fails or hangs for a request is out at once, and in again when it has said since that it is
ready: no request is spent on finding that out.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from common.logger import get_logger

log = get_logger(__name__)

LOOK_EVERY_S = 2.0
RESOLVE_TIMEOUT_S = 2.0

READY = "ready"
UNREACHABLE = "unreachable"
_BY_HOPE = (READY, "loading", "draining")
"""Of several states, the first that any replica is in is the service's."""


@dataclass(eq=False)
class Replica:
    """One address, with what this gateway knows of it."""

    host: str
    port: int
    state: str = READY
    """As its `/readyz` said last; a new one is believed to be ready until it says otherwise."""
    in_flight: int = 0
    """Requests and sessions of this gateway that it serves now."""
    full_until: float = 0.0
    failed_at: float = 0.0

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1


Resolve = Callable[[str, int], Awaitable[list[str]]]
Probe = Callable[[Replica], Awaitable[str]]
"""Returns the replica's state; does not raise."""


async def addresses_of(host: str, port: int) -> list[str]:
    """All addresses behind a name, by the system's resolver in a thread. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=1)  # SOCK_STREAM, or each comes thrice
    return [str(address[0]) for *_, address in found]


class Replicas:
    """Those behind `host`. Belongs to the event loop."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        probe: Probe,
        resolve: Resolve = addresses_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.port = port
        self._probe = probe
        self._resolve = resolve
        self._clock = clock
        self._known: dict[str, Replica] = {}

    @property
    def known(self) -> tuple[Replica, ...]:
        return tuple(self._known.values())

    @property
    def state(self) -> str:
        """`ready` if any is, else the most hopeful of their states."""
        states = {replica.state for replica in self.known}
        return next((s for s in _BY_HOPE if s in states), UNREACHABLE)

    def count(self) -> dict[str, int]:
        """How many are in each state."""
        return dict(Counter(replica.state for replica in self.known))

    def in_order(self) -> Iterator[Replica]:
        """Whom to ask, the best first: ready ones by how much they have to do, then those that
        were full a moment ago. If there is none of both, one of the rest: better to ask in vain
        than to refuse what could be served.
        """
        asked: list[Replica] = []
        while True:
            # Anew each time: waiting for one may have taken long, and others have gone meanwhile.
            now = self._clock()
            left = [r for r in random.sample(self.known, len(self._known)) if r not in asked]
            ready = [replica for replica in left if replica.state == READY]
            if ready:
                best = min(ready, key=lambda r: (r.full_until > now, r.in_flight))
            elif left and not asked:
                best = min(left, key=lambda r: r.failed_at)
            else:
                return
            asked.append(best)
            yield best

    def full(self, replica: Replica, for_s: float) -> None:
        """It refused as busy: others are asked first for that long."""
        replica.full_until = self._clock() + for_s

    def eject(self, replica: Replica, why: str) -> None:
        """It failed, hangs or is leaving: out until it has said anew that it is ready."""
        replica.failed_at = self._clock()
        if replica.state == READY:
            log.warning("replica.out", service=self.host, replica=replica.netloc, why=why)
        replica.state = why

    async def look(self) -> None:
        """Resolve the name and ask each replica how it is."""
        try:
            found = await asyncio.wait_for(self._resolve(self.host, self.port), RESOLVE_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError) as error:
            # A resolver that fails for a moment does not mean that anybody has gone.
            log.debug("replica.unresolved", service=self.host, error=repr(error))
        else:
            self._known = {a: self._known.get(a) or Replica(a, self.port) for a in found}
        await asyncio.gather(*(self._ask(replica) for replica in self.known))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keeps looking while the block runs; the first look is done when it begins."""
        await self.look()
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait({watch})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def _ask(self, replica: Replica) -> None:
        asked_at = self._clock()
        state = await self._probe(replica)
        if state == READY and replica.failed_at > asked_at:
            return  # it has failed since
        if state != replica.state:
            log.info("replica.state", service=self.host, replica=replica.netloc, state=state)
        replica.state = state
